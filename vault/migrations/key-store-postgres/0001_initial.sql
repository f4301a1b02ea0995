-- The key store as a database of its own (docs/formats.md section 4): what must not lie in the backups of the values. Every
-- secret is sealed under the root key before it comes here; in clear lie ids, the identity and the heads of the logs, both
-- signed. Rows of the installation itself stand under the tenant '-system'. What is destroyed is overwritten and deleted, and
-- vacuumed soon: no old version of a row is kept longer than it must.

CREATE TABLE secrets (
    tenant    text COLLATE "C" NOT NULL, -- whose it is
    kind      text COLLATE "C" NOT NULL, -- what it is: kek, erasure, pepper, data-key, ...
    secret_id text COLLATE "C" NOT NULL, -- its id within the kind
    version   bigint           NOT NULL, -- its version
    sealed    bytea            NOT NULL, -- the secret, sealed under the root key and bound to its name
    root_version bigint        NOT NULL, -- which root key: that of the identity, or of a rotation under way
    PRIMARY KEY (tenant, kind, secret_id, version, root_version)
) WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX secrets_by_kind ON secrets (kind, tenant);

CREATE TABLE clear_files (
    tenant  text COLLATE "C" NOT NULL, -- '-system'
    name    text COLLATE "C" NOT NULL, -- identity, heads, rotation
    content bytea            NOT NULL, -- as in a folder, signature or seal included
    PRIMARY KEY (tenant, name)
);
