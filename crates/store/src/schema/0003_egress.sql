-- What is sealed is text that only the server's key opens; the store never sees what is in it.

-- Proves at each start that the key file is the one that this database was written with.
CREATE TABLE key_check (
    id TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
);

CREATE TABLE secrets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (project_id, name)
);
CREATE INDEX secrets_by_creation ON secrets (project_id, created_at, id);

-- Only the SHA-256 of a token is kept, in hexadecimal. A token counts while its row is there, its
-- time is not up, its sandbox is alive and its secret exists: asked at each use.
CREATE TABLE guest_tokens (
    token_hash TEXT PRIMARY KEY,
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    secret_id TEXT NOT NULL REFERENCES secrets (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);
CREATE INDEX guest_tokens_of_sandbox ON guest_tokens (sandbox_id);
CREATE INDEX guest_tokens_of_secret ON guest_tokens (secret_id);

-- Environment, network and files of a sandbox, which a restarted server hands to the node again:
-- sealed together, forgotten at its end. The names of the secrets that its policy refers to are
-- beside it, for the one question that is asked at each use of a secret.
ALTER TABLE sandboxes DROP COLUMN env;
ALTER TABLE sandboxes ADD COLUMN sealed TEXT;
ALTER TABLE sandboxes ADD COLUMN secret_names TEXT NOT NULL DEFAULT '[]';

-- What sandboxes of the template's newest build may reach at most; none bounds nothing.
ALTER TABLE templates ADD COLUMN egress TEXT;
