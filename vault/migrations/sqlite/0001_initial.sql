-- The whole schema. The tenant leads every primary and unique key; rows of the installation itself stand under the
-- tenant '-system'. Ids are 16 bytes of a UUID made by the application; times are milliseconds since 1970, UTC.

-- Values as they were captured. Nothing here is changed but by re-sealing; purge_after follows an extension.
CREATE TABLE secure_values (
    tenant      TEXT    NOT NULL, -- whose it is
    value_id    BLOB    NOT NULL, -- public half of the secureValueKey (UUIDv7)
    app         TEXT    NOT NULL, -- the app it was captured for
    field       TEXT    NOT NULL, -- the field it was entered into
    kind        TEXT    NOT NULL, -- the field's type
    retention   TEXT    NOT NULL, -- the retention class
    created     INTEGER NOT NULL, -- when it was captured
    expires     INTEGER,          -- when it expires, as captured; NULL is until deleted
    uses        INTEGER,          -- how often it may be used, as captured; NULL is not counted
    session     BLOB,             -- the capture session; NULL is a capture by the app's server
    subject     BLOB,             -- salted commitment to the subject, 32 bytes
    flows       TEXT    NOT NULL, -- names of the flows it is bound to, sorted, one blank between them
    purposes    TEXT    NOT NULL, -- names of the purposes it is bound to, likewise
    verifier    BLOB    NOT NULL, -- HMAC over the key's secret half, 32 bytes
    pepper_id   BLOB    NOT NULL, -- the pepper of the verifier
    data_key_id BLOB    NOT NULL, -- the data key of the outer seal
    sealed      BLOB    NOT NULL, -- the sealed record
    purge_after INTEGER,          -- when the purge may take it; no decision rests on it
    PRIMARY KEY (tenant, value_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX secure_values_to_purge ON secure_values (purge_after, tenant) WHERE purge_after IS NOT NULL;

-- State of values with counted uses, failures or an extension.
CREATE TABLE value_states (
    tenant      TEXT    NOT NULL, -- whose it is
    value_id    BLOB    NOT NULL, -- the value
    data_key_id BLOB    NOT NULL, -- the data key of the MAC
    version     INTEGER NOT NULL, -- grows by one with each change; the entry of the change carries it
    code        INTEGER NOT NULL, -- 1 active, 2 spent
    uses_left   INTEGER,          -- NULL is not counted
    expires     INTEGER,          -- when it expires now
    failures    INTEGER NOT NULL, -- failed verifications so far
    mac         BLOB    NOT NULL, -- HMAC over all of it, 32 bytes
    PRIMARY KEY (tenant, value_id)
) STRICT, WITHOUT ROWID;

-- Data keys: wrapped by the tenant's KEK, sealed once more under an erasure key that is not in the database.
CREATE TABLE data_keys (
    tenant      TEXT    NOT NULL, -- whose it is
    data_key_id BLOB    NOT NULL, -- its id
    class       TEXT    NOT NULL, -- what it is for
    epoch       INTEGER NOT NULL, -- floor(created / length of an epoch of the class)
    kek_id      BLOB    NOT NULL, -- the KEK that wraps it
    kek_version INTEGER NOT NULL, -- that KEK's version
    mechanism   TEXT    NOT NULL, -- the wrapping mechanism
    sealed      BLOB    NOT NULL, -- the wrapped key and its HMAC
    created     INTEGER NOT NULL, -- when it was made
    era         INTEGER NOT NULL, -- how many of the tenant's KEK versions were compromised by then
    part        INTEGER NOT NULL, -- which of its class, epoch and era: another is begun when one has sealed much
    closed      INTEGER NOT NULL, -- 1 once nothing is sealed under it any more: only then it can be found to be needed by nothing
    PRIMARY KEY (tenant, data_key_id),
    UNIQUE (tenant, class, epoch, era, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX data_keys_by_epoch ON data_keys (class, epoch);

-- Marks of data keys that ended with a KEK version whose token two custodians stated to be lost: what is gone for that was not
-- taken away by somebody.
CREATE TABLE lost_data_keys (
    tenant      TEXT    NOT NULL, -- whose it was
    data_key_id BLOB    NOT NULL, -- its id
    kek_id      BLOB    NOT NULL, -- the KEK that wrapped it
    kek_version INTEGER NOT NULL, -- that KEK's version
    class       TEXT    NOT NULL, -- what it was for; this and the next are outside the MAC, for the purge
    epoch       INTEGER NOT NULL, -- when
    mac         BLOB    NOT NULL, -- HMAC under the key store's key `data-key`, 32 bytes
    PRIMARY KEY (tenant, data_key_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX lost_data_keys_to_purge ON lost_data_keys (class, epoch);

-- Key pairs of the capture page, one for each tenant and day, and one more after a compromise; the private half is sealed.
CREATE TABLE capture_keys (
    tenant      TEXT    NOT NULL, -- whose it is
    key_id      BLOB    NOT NULL, -- 16 random bytes named in every sealed body
    epoch       INTEGER NOT NULL, -- the day
    data_key_id BLOB    NOT NULL, -- the data key of the seal
    sealed      BLOB    NOT NULL, -- the private half
    created     INTEGER NOT NULL, -- when it was made
    PRIMARY KEY (tenant, key_id),
    UNIQUE (tenant, data_key_id)
) STRICT, WITHOUT ROWID;

-- Encapsulated keys already seen in a capture session: a repeat is refused.
CREATE TABLE capture_encs (
    tenant  TEXT    NOT NULL, -- whose it is
    session BLOB    NOT NULL, -- the capture session
    enc     BLOB    NOT NULL, -- SHA-256 of the encapsulated key
    expires INTEGER NOT NULL, -- the end of the session
    PRIMARY KEY (tenant, session, enc)
) STRICT, WITHOUT ROWID;
CREATE INDEX capture_encs_to_purge ON capture_encs (expires);

-- Idempotency records: one for each caller, route and Idempotency-Key.
CREATE TABLE idempotency (
    tenant      TEXT    NOT NULL, -- whose it is
    lookup      BLOB    NOT NULL, -- HMAC over route, caller and key, 32 bytes
    body_mac    BLOB    NOT NULL, -- HMAC over the body under the record's own key
    data_key_id BLOB    NOT NULL, -- the data key of the record
    run_id      BLOB,             -- the run, where there is one
    deadline    INTEGER NOT NULL, -- until when a running request may still answer
    expires     INTEGER NOT NULL, -- when the record goes
    status      INTEGER,          -- status of the answer; 102 while it runs, 409 where it is not kept
    answer      BLOB,             -- the sealed answer; for 102 and 409 nothing, sealed
    PRIMARY KEY (tenant, lookup)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_to_purge ON idempotency (expires);

-- Executions of flows: never an output, never a value.
CREATE TABLE flow_runs (
    tenant        TEXT    NOT NULL, -- whose it is
    run_id        BLOB    NOT NULL, -- its id
    app           TEXT    NOT NULL, -- the app
    flow          TEXT    NOT NULL, -- the flow
    flow_version  INTEGER NOT NULL, -- its version
    credential_id BLOB    NOT NULL, -- the credential that invoked it
    started       INTEGER NOT NULL, -- when it began
    deadline      INTEGER NOT NULL, -- until when its outcome may still come
    outcome       TEXT,             -- completed, failed or unknown; NULL while it runs
    code          TEXT,             -- code of the problem given out, where it failed
    finished      INTEGER,          -- when
    PRIMARY KEY (tenant, run_id)
) STRICT, WITHOUT ROWID;

-- Rows that decide: one shape. The MAC covers realm, tenant, table, key, version and body; a row older than its newest
-- entry in the access log is refused.
CREATE TABLE tenants (
    tenant     TEXT    NOT NULL, -- the tenant itself
    key        TEXT    NOT NULL, -- its name once more
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- switches, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE apps (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the app's name
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- the app's document, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE flows (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the flow's name
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- the flow's document, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE destinations (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the destination's name
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- host and sealed secrets, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the credential's id
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- record and keyed hash, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_by_id ON credentials (key);

CREATE TABLE capture_sessions (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the session's id; its time is the session's beginning
    version    INTEGER NOT NULL, -- number of values captured so far and one
    body       BLOB    NOT NULL, -- what the session may write, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX capture_sessions_by_id ON capture_sessions (key);

CREATE TABLE keks (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the KEK's id and version
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- mechanism and state, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_providers (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the configuration's id
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- module, token and whether its PIN was refused, as canonical JSON; never the PIN
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_keys (
    tenant     TEXT    NOT NULL, -- '-system'
    key        TEXT    NOT NULL, -- the boot's id
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- public key, build and certificate, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    tenant     TEXT    NOT NULL, -- whose it is
    key        TEXT    NOT NULL, -- the approval's id
    version    INTEGER NOT NULL, -- grows by one with each change
    body       BLOB    NOT NULL, -- who asked, who approved, what, as canonical JSON
    mac        BLOB    NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id BLOB    NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

-- Which tenant has an app: names of apps are unique in the installation. It only routes; the app's row decides.
CREATE TABLE app_names (
    tenant TEXT NOT NULL, -- '-system'
    app    TEXT NOT NULL, -- the app
    owner  TEXT NOT NULL, -- the tenant that has it
    PRIMARY KEY (tenant, app)
) STRICT, WITHOUT ROWID;

-- What named keys of customers' tokens are known by while a version stands on them: one key serves one version. It only keeps two
-- versions from taking one key in the same moment, and two creations of a tenant from giving it two; the rows of KEKs decide.
CREATE TABLE kek_claims (
    tenant TEXT NOT NULL, -- '-system'
    claim  TEXT NOT NULL, -- SHA-256 of place, check value or tenant, in hexadecimal
    owner  TEXT NOT NULL, -- the tenant and the KEK's id and version
    PRIMARY KEY (tenant, claim)
) STRICT, WITHOUT ROWID;

-- PINs that somebody brought for a token and that were not accepted there, counted for all nodes before each is tried. Nothing of
-- a PIN is here.
CREATE TABLE pin_guesses (
    tenant TEXT    NOT NULL, -- who brought them; '-system' for tenants that are being made
    token  TEXT    NOT NULL, -- the token's serial number
    tried  INTEGER NOT NULL, -- how many
    last   INTEGER NOT NULL, -- when the last one was begun
    PRIMARY KEY (tenant, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_guesses_to_purge ON pin_guesses (last);

-- The number of each tenant's settings; it grows with every change of a row that decides.
CREATE TABLE generations (
    tenant     TEXT    NOT NULL, -- whose
    generation INTEGER NOT NULL, -- the number
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;

-- The access log: exact bytes. The other columns serve look-ups only; a reader compares them with the leaf.
CREATE TABLE access_log (
    tenant         TEXT    NOT NULL, -- whose log
    boot           BLOB    NOT NULL, -- the start of the node that wrote it
    lane           INTEGER NOT NULL, -- the lane of that start
    number         INTEGER NOT NULL, -- the place in the lane
    time           INTEGER NOT NULL, -- when
    action         TEXT    NOT NULL, -- what
    outcome        TEXT    NOT NULL, -- how it ended
    value_id       BLOB,             -- the value
    actor_id       TEXT    NOT NULL, -- who
    flow           TEXT,             -- the flow
    app            TEXT,             -- the app
    object         TEXT,             -- table and key of the row that decides which it made
    object_version INTEGER,          -- that row's version
    state_version  INTEGER,          -- the value's state version from this entry on
    leaf           BLOB    NOT NULL, -- version byte and canonical JSON, as hashed
    opening_key    BLOB,             -- data key (class log-opening) of the openings' seals; NULL is none, or erased
    on_behalf_of   BLOB,             -- sealed opening of a personal member: for whom, in the caller's words
    address        BLOB,             -- likewise: the peer address
    actor_name     BLOB,             -- likewise: display name of the actor
    reference      BLOB,             -- likewise: the caller's reference
    PRIMARY KEY (tenant, boot, lane, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX access_log_by_value ON access_log (tenant, value_id, state_version) WHERE value_id IS NOT NULL;
-- Ends of boots: few rows, asked at each start.
CREATE INDEX access_log_farewells ON access_log (tenant, action) WHERE action = 'node.stopped';
CREATE UNIQUE INDEX access_log_by_object ON access_log (tenant, object, object_version) WHERE object IS NOT NULL;

-- Batches as their node signed them; each is chained to the one before it in its lane.
CREATE TABLE log_batches (
    tenant    TEXT    NOT NULL, -- '-system': a batch spans tenants
    boot      BLOB    NOT NULL, -- the start of the node
    lane      INTEGER NOT NULL, -- the lane
    first     INTEGER NOT NULL, -- the first number
    count     INTEGER NOT NULL, -- how many entries
    time      INTEGER NOT NULL, -- the batch's clock
    previous  BLOB    NOT NULL, -- SHA-256 of the lane's previous signature; zeros in the first
    root      BLOB    NOT NULL, -- root over the groups
    signature BLOB    NOT NULL, -- the node's signature
    PRIMARY KEY (tenant, boot, lane, first)
) STRICT, WITHOUT ROWID;

-- Each tenant's share of a batch: leaf of the tree whose root is signed.
CREATE TABLE log_groups (
    tenant TEXT    NOT NULL, -- whose entries
    boot   BLOB    NOT NULL, -- the start of the node
    lane   INTEGER NOT NULL, -- the lane
    first  INTEGER NOT NULL, -- the first number of this tenant in the batch
    count  INTEGER NOT NULL, -- how many entries of this tenant
    batch  INTEGER NOT NULL, -- the batch's first number
    salt   BLOB    NOT NULL, -- 16 random bytes
    hash   BLOB    NOT NULL, -- SHA-256 over the entries' length-prefixed bytes
    PRIMARY KEY (tenant, boot, lane, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_groups_by_batch ON log_groups (boot, lane, batch, first);

-- Lanes and how far each is integrated.
CREATE TABLE log_lanes (
    tenant   TEXT    NOT NULL, -- '-system'
    boot     BLOB    NOT NULL, -- the start of the node
    lane     INTEGER NOT NULL, -- the lane
    opened   INTEGER NOT NULL, -- when its first batch was written
    next     INTEGER NOT NULL, -- the number from which on nothing is integrated
    previous BLOB    NOT NULL, -- SHA-256 of the signature of the last integrated batch; zeros before
    PRIMARY KEY (tenant, boot, lane)
) STRICT, WITHOUT ROWID;

-- Index of each tenant's log: which entries stand at which leaves. A row is a stretch: leaf_index + n is entry
-- number + n of the lane, for n under count; a step of integration makes one for each log.
CREATE TABLE log_index (
    tenant     TEXT    NOT NULL, -- whose log
    leaf_index INTEGER NOT NULL, -- index of its first leaf; stretches follow each other from 0, without gaps
    count      INTEGER NOT NULL, -- how many leaves
    boot       BLOB    NOT NULL, -- position of its first entry
    lane       INTEGER NOT NULL, -- position of its first entry
    number     INTEGER NOT NULL, -- position of its first entry
    PRIMARY KEY (tenant, leaf_index),
    UNIQUE (tenant, boot, lane, number)
) STRICT, WITHOUT ROWID;

-- Hash tiles (C2SP tlog-tiles): 256 hashes of 32 bytes when full, fewer at the right edge.
CREATE TABLE log_tiles (
    tenant TEXT    NOT NULL, -- whose log
    level  INTEGER NOT NULL, -- the tile's level
    tile   INTEGER NOT NULL, -- the tile's index within its level
    hashes BLOB    NOT NULL, -- the hashes
    PRIMARY KEY (tenant, level, tile)
) STRICT, WITHOUT ROWID;

-- The head of each log; compared and swapped, it is the only fence between sequencers.
CREATE TABLE log_heads (
    tenant TEXT    NOT NULL, -- whose log
    size   INTEGER NOT NULL, -- number of leaves
    root   BLOB    NOT NULL, -- root of the tree, 32 bytes
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;

-- Signed tree heads: stored before they are shown, never two for one size.
CREATE TABLE checkpoints (
    tenant TEXT    NOT NULL, -- whose log
    size   INTEGER NOT NULL, -- number of leaves
    time   INTEGER NOT NULL, -- when it was signed
    note   TEXT    NOT NULL, -- the signed note
    PRIMARY KEY (tenant, size)
) STRICT, WITHOUT ROWID;

-- The last sign of life of each start of a node, signed by its key.
CREATE TABLE heartbeats (
    tenant    TEXT    NOT NULL, -- '-system'
    boot      BLOB    NOT NULL, -- the start of the node
    time      INTEGER NOT NULL, -- when
    lanes     BLOB    NOT NULL, -- per lane: its number, its next entry's number, hash of its last signature (44 bytes)
    signature BLOB    NOT NULL, -- the node's signature
    PRIMARY KEY (tenant, boot)
) STRICT, WITHOUT ROWID;

-- Boots that may write: a boot's row is there from before its first entry until it ends or another node closes it. Every
-- batch holds its boot's row, so that nothing is written into a lane once the row is gone.
CREATE TABLE open_boots (
    tenant TEXT NOT NULL, -- '-system'
    boot   BLOB NOT NULL, -- the start of the node
    PRIMARY KEY (tenant, boot)
) STRICT, WITHOUT ROWID;

-- Boots that somebody begins to close: noted before the row above goes, until the entries that say where the boot ended are written. If
-- whoever closes it goes away in the middle, another node finds it here.
CREATE TABLE closing_boots (
    tenant TEXT NOT NULL, -- '-system'
    boot   BLOB NOT NULL, -- the start of the node
    PRIMARY KEY (tenant, boot)
) STRICT, WITHOUT ROWID;

-- Whose database this is; the key store carries the same id.
CREATE TABLE installation (
    tenant          TEXT    NOT NULL, -- '-system'
    installation_id BLOB    NOT NULL, -- the id in both durable places
    realm           TEXT    NOT NULL, -- the realm
    created         INTEGER NOT NULL, -- when
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;
