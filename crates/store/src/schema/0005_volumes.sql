-- Storage that outlives sandboxes. The token for its content is sealed, as secrets are: its owner may
-- ask for it again. A row that is 'making' or 'deleting' says what the node is or was asked to do, and
-- the next start of the server finishes it.
CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    size_mib BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project_id, name)
);

-- What a sandbox was made with; it counts while the sandbox has not ended.
CREATE TABLE sandbox_volumes (
    sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    volume_id TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    PRIMARY KEY (sandbox_id, path)
);
CREATE INDEX sandbox_volumes_of_volume ON sandbox_volumes (volume_id);
