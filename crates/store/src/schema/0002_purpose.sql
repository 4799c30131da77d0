-- What a sandbox is there for: one that a client made stays when the server restarts, one that the
-- server made for a single execution does not.
ALTER TABLE sandboxes ADD COLUMN purpose TEXT NOT NULL DEFAULT 'client';
