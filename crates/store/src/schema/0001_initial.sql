-- Times are microseconds since the Unix epoch, ids and JSON are text.

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

-- Only the SHA-256 of a key is kept, in hexadecimal.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    key_hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

-- A template without a project belongs to the installation: every project may use it.
CREATE TABLE templates (
    id TEXT PRIMARY KEY,
    project_id TEXT REFERENCES projects (id),
    build TEXT NOT NULL,
    build_id TEXT NOT NULL,
    limits TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    build_count BIGINT NOT NULL,
    spawn_count BIGINT NOT NULL,
    last_spawned_at BIGINT
);

CREATE TABLE template_names (
    name TEXT PRIMARY KEY,
    template_id TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    position BIGINT NOT NULL
);
CREATE INDEX template_names_of_template ON template_names (template_id, position);

-- The access token and the environment are here because a restarted server hands them to the node
-- again when it adopts the sandbox; the file is readable by its owner only.
CREATE TABLE sandboxes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    template_id TEXT NOT NULL,
    template TEXT NOT NULL,
    template_name TEXT,
    build TEXT NOT NULL,
    desired TEXT NOT NULL,
    observed TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    generation BIGINT NOT NULL,
    limits TEXT NOT NULL,
    env TEXT NOT NULL,
    metadata TEXT NOT NULL,
    access_token TEXT,
    usage TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    end_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX sandboxes_by_creation ON sandboxes (project_id, created_at, id);
CREATE INDEX sandboxes_alive ON sandboxes (project_id) WHERE ended_at IS NULL;
CREATE INDEX sandboxes_ended ON sandboxes (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE idempotency_keys (
    project_id TEXT NOT NULL REFERENCES projects (id),
    idempotency_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, idempotency_key)
);
CREATE INDEX idempotency_keys_of_sandbox ON idempotency_keys (sandbox_id);
