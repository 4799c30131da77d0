-- A template has builds; a build never changes once it is ready; a tag of the template says which
-- build its name means, and moves.

CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    template_id TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    -- Whose it is; none for the installation's own.
    project_id TEXT REFERENCES projects (id),
    -- What nodes know it by.
    reference TEXT NOT NULL,
    -- waiting (not ordered yet), building, ready or error; the last two are final.
    state TEXT NOT NULL,
    -- Why it failed, and at which step.
    reason TEXT,
    step TEXT,
    config TEXT NOT NULL,
    limits TEXT NOT NULL,
    egress TEXT,
    -- The tags that it gets when it is ready.
    tags TEXT NOT NULL,
    size_bytes BIGINT,
    image_digest TEXT,
    -- The sandbox that its steps run in, and the secrets that the policy of that one refers to.
    sandbox_id TEXT,
    secret_names TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX builds_of_template ON builds (template_id, created_at, id);
CREATE INDEX builds_by_state ON builds (state, created_at) WHERE finished_at IS NULL;
CREATE INDEX builds_by_sandbox ON builds (sandbox_id) WHERE sandbox_id IS NOT NULL;

CREATE TABLE build_logs (
    build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- 0 debug, 1 info, 2 warn, 3 error.
    level BIGINT NOT NULL,
    step TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (build_id, number)
);

CREATE TABLE template_tags (
    template_id TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (template_id, tag)
);
CREATE INDEX template_tags_of_build ON template_tags (build_id);

-- Archives for COPY steps. The hash is the client's name for one, the digest (SHA-256 of its bytes)
-- is that of its file.
CREATE TABLE uploads (
    project_id TEXT NOT NULL REFERENCES projects (id),
    hash TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, hash)
);

-- What templates had of their one build moves to it.
INSERT INTO builds (id, template_id, project_id, reference, state, config, limits, egress, tags,
    created_at, updated_at, finished_at)
SELECT build_id, id, project_id, build, 'ready', '{}', limits, egress, '["default"]',
    updated_at, updated_at, updated_at
FROM templates;
INSERT INTO template_tags (template_id, tag, build_id, created_at)
SELECT id, 'default', build_id, updated_at FROM templates;
ALTER TABLE templates DROP COLUMN build;
ALTER TABLE templates DROP COLUMN build_id;
ALTER TABLE templates DROP COLUMN limits;
ALTER TABLE templates DROP COLUMN egress;
-- 1 where other projects may use it too; the installation's own are everybody's anyway.
ALTER TABLE templates ADD COLUMN public BIGINT NOT NULL DEFAULT 0;

-- Names are unique within their project; the owner of the installation's own is ''.
ALTER TABLE template_names RENAME TO names_of_all;
CREATE TABLE template_names (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    template_id TEXT NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);
INSERT INTO template_names (owner, name, template_id, position)
SELECT COALESCE(t.project_id, ''), n.name, n.template_id, n.position
FROM names_of_all n JOIN templates t ON t.id = n.template_id;
DROP TABLE names_of_all;
CREATE INDEX template_names_of_template ON template_names (template_id, position);
CREATE INDEX templates_of_project ON templates (project_id, created_at, id);
