-- The whole schema, with the names and numbers of SQLite's. The tenant leads every primary and unique key; rows of the
-- installation itself stand under the tenant '-system'. Ids are 16 bytes of a UUID made by the application; times are
-- milliseconds since 1970, UTC. Texts compare byte by byte (collation "C"), as keys do in the vault: whatever the
-- database's own collation is, an order is the same in both. No sequences, triggers, functions or foreign keys.

-- Values as they were captured. Nothing here is changed but by re-sealing; purge_after follows an extension.
CREATE TABLE secure_values (
    tenant      text COLLATE "C" NOT NULL, -- whose it is
    value_id    bytea            NOT NULL, -- public half of the secureValueKey (UUIDv7)
    app         text COLLATE "C" NOT NULL, -- the app it was captured for
    field       text COLLATE "C" NOT NULL, -- the field it was entered into
    kind        text COLLATE "C" NOT NULL, -- the field's type
    retention   text COLLATE "C" NOT NULL, -- the retention class
    created     bigint           NOT NULL, -- when it was captured
    expires     bigint,                    -- when it expires, as captured; NULL is until deleted
    uses        bigint,                    -- how often it may be used, as captured; NULL is not counted
    session     bytea,                     -- the capture session; NULL is a capture by the app's server
    subject     bytea,                     -- salted commitment to the subject, 32 bytes
    flows       text COLLATE "C" NOT NULL, -- names of the flows it is bound to, sorted, one blank between them
    purposes    text COLLATE "C" NOT NULL, -- names of the purposes it is bound to, likewise
    verifier    bytea            NOT NULL, -- HMAC over the key's secret half, 32 bytes
    pepper_id   bytea            NOT NULL, -- the pepper of the verifier
    data_key_id bytea            NOT NULL, -- the data key of the outer seal
    sealed      bytea            NOT NULL, -- the sealed record
    purge_after bigint,                    -- when the purge may take it; no decision rests on it
    PRIMARY KEY (tenant, value_id)
);
CREATE INDEX secure_values_to_purge ON secure_values (purge_after, tenant) WHERE purge_after IS NOT NULL;

-- State of values with counted uses, failures or an extension.
CREATE TABLE value_states (
    tenant      text COLLATE "C" NOT NULL, -- whose it is
    value_id    bytea            NOT NULL, -- the value
    data_key_id bytea            NOT NULL, -- the data key of the MAC
    version     bigint           NOT NULL, -- grows by one with each change; the entry of the change carries it
    code        bigint           NOT NULL, -- 1 active, 2 spent
    uses_left   bigint,                    -- NULL is not counted
    expires     bigint,                    -- when it expires now
    failures    bigint           NOT NULL, -- failed verifications so far
    mac         bytea            NOT NULL, -- HMAC over all of it, 32 bytes
    PRIMARY KEY (tenant, value_id)
);

-- Data keys: wrapped by the tenant's KEK, sealed once more under an erasure key that is not in the database.
CREATE TABLE data_keys (
    tenant      text COLLATE "C" NOT NULL, -- whose it is
    data_key_id bytea            NOT NULL, -- its id
    class       text COLLATE "C" NOT NULL, -- what it is for
    epoch       bigint           NOT NULL, -- floor(created / length of an epoch of the class)
    kek_id      bytea            NOT NULL, -- the KEK that wraps it
    kek_version bigint           NOT NULL, -- that KEK's version
    mechanism   text COLLATE "C" NOT NULL, -- the wrapping mechanism
    sealed      bytea            NOT NULL, -- the wrapped key and its HMAC
    created     bigint           NOT NULL, -- when it was made
    era         bigint           NOT NULL, -- how many of the tenant's KEK versions were compromised by then
    part        bigint           NOT NULL, -- which of its class, epoch and era: another is begun when one has sealed much
    closed      bigint           NOT NULL, -- 1 once nothing is sealed under it any more: only then it can be found to be needed by nothing
    PRIMARY KEY (tenant, data_key_id),
    UNIQUE (tenant, class, epoch, era, part)
);
CREATE INDEX data_keys_by_epoch ON data_keys (class, epoch);

-- Marks of data keys that ended with a KEK version whose token two custodians stated to be lost: what is gone for that was not
-- taken away by somebody.
CREATE TABLE lost_data_keys (
    tenant      text COLLATE "C" NOT NULL, -- whose it was
    data_key_id bytea            NOT NULL, -- its id
    kek_id      bytea            NOT NULL, -- the KEK that wrapped it
    kek_version bigint           NOT NULL, -- that KEK's version
    class       text COLLATE "C" NOT NULL, -- what it was for; this and the next are outside the MAC, for the purge
    epoch       bigint           NOT NULL, -- when
    mac         bytea            NOT NULL, -- HMAC under the key store's key `data-key`, 32 bytes
    PRIMARY KEY (tenant, data_key_id)
);
CREATE INDEX lost_data_keys_to_purge ON lost_data_keys (class, epoch);

-- Key pairs of the capture page, one for each tenant and day, and one more after a compromise; the private half is sealed.
CREATE TABLE capture_keys (
    tenant      text COLLATE "C" NOT NULL, -- whose it is
    key_id      bytea            NOT NULL, -- 16 random bytes named in every sealed body
    epoch       bigint           NOT NULL, -- the day
    data_key_id bytea            NOT NULL, -- the data key of the seal
    sealed      bytea            NOT NULL, -- the private half
    created     bigint           NOT NULL, -- when it was made
    PRIMARY KEY (tenant, key_id),
    UNIQUE (tenant, data_key_id)
);

-- Encapsulated keys already seen in a capture session: a repeat is refused.
CREATE TABLE capture_encs (
    tenant  text COLLATE "C" NOT NULL, -- whose it is
    session bytea            NOT NULL, -- the capture session
    enc     bytea            NOT NULL, -- SHA-256 of the encapsulated key
    expires bigint           NOT NULL, -- the end of the session
    PRIMARY KEY (tenant, session, enc)
);
CREATE INDEX capture_encs_to_purge ON capture_encs (expires);

-- Idempotency records: one for each caller, route and Idempotency-Key.
CREATE TABLE idempotency (
    tenant      text COLLATE "C" NOT NULL, -- whose it is
    lookup      bytea            NOT NULL, -- HMAC over route, caller and key, 32 bytes
    body_mac    bytea            NOT NULL, -- HMAC over the body under the record's own key
    data_key_id bytea            NOT NULL, -- the data key of the record
    run_id      bytea,                     -- the run, where there is one
    deadline    bigint           NOT NULL, -- until when a running request may still answer
    expires     bigint           NOT NULL, -- when the record goes
    status      bigint,                    -- status of the answer; 102 while it runs, 409 where it is not kept
    answer      bytea,                     -- the sealed answer; for 102 and 409 nothing, sealed
    PRIMARY KEY (tenant, lookup)
);
CREATE INDEX idempotency_to_purge ON idempotency (expires);

-- Executions of flows: never an output, never a value.
CREATE TABLE flow_runs (
    tenant        text COLLATE "C" NOT NULL, -- whose it is
    run_id        bytea            NOT NULL, -- its id
    app           text COLLATE "C" NOT NULL, -- the app
    flow          text COLLATE "C" NOT NULL, -- the flow
    flow_version  bigint           NOT NULL, -- its version
    credential_id bytea            NOT NULL, -- the credential that invoked it
    started       bigint           NOT NULL, -- when it began
    deadline      bigint           NOT NULL, -- until when its outcome may still come
    outcome       text COLLATE "C",          -- completed, failed or unknown; NULL while it runs
    code          text COLLATE "C",          -- code of the problem given out, where it failed
    finished      bigint,                    -- when
    PRIMARY KEY (tenant, run_id)
);

-- Rows that decide: one shape. The MAC covers realm, tenant, table, key, version and body; a row older than its newest
-- entry in the access log is refused.
CREATE TABLE tenants (
    tenant     text COLLATE "C" NOT NULL, -- the tenant itself
    key        text COLLATE "C" NOT NULL, -- its name once more
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- switches, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE apps (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the app's name
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- the app's document, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE flows (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the flow's name
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- the flow's document, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE destinations (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the destination's name
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- host and sealed secrets, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE credentials (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the credential's id
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- record and keyed hash, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);
CREATE INDEX credentials_by_id ON credentials (key);

CREATE TABLE capture_sessions (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the session's id; its time is the session's beginning
    version    bigint           NOT NULL, -- number of values captured so far and one
    body       bytea            NOT NULL, -- what the session may write, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
) WITH (fillfactor = 50); -- each capture makes a new version of its session's row: with room beside it no index moves
CREATE INDEX capture_sessions_by_id ON capture_sessions (key);

CREATE TABLE keks (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the KEK's id and version
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- mechanism and state, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE key_providers (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the configuration's id
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- module, token and whether its PIN was refused, as canonical JSON; never the PIN
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE node_keys (
    tenant     text COLLATE "C" NOT NULL, -- '-system'
    key        text COLLATE "C" NOT NULL, -- the boot's id
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- public key, build and certificate, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

CREATE TABLE approvals (
    tenant     text COLLATE "C" NOT NULL, -- whose it is
    key        text COLLATE "C" NOT NULL, -- the approval's id
    version    bigint           NOT NULL, -- grows by one with each change
    body       bytea            NOT NULL, -- who asked, who approved, what, as canonical JSON
    mac        bytea            NOT NULL, -- HMAC under the key store's key `config`
    mac_key_id bytea            NOT NULL, -- that key's id
    PRIMARY KEY (tenant, key)
);

-- Which tenant has an app: names of apps are unique in the installation. It only routes; the app's row decides.
CREATE TABLE app_names (
    tenant text COLLATE "C" NOT NULL, -- '-system'
    app    text COLLATE "C" NOT NULL, -- the app
    owner  text COLLATE "C" NOT NULL, -- the tenant that has it
    PRIMARY KEY (tenant, app)
);

-- What named keys of customers' tokens are known by while a version stands on them: one key serves one version. It only keeps two
-- versions from taking one key in the same moment, and two creations of a tenant from giving it two; the rows of KEKs decide.
CREATE TABLE kek_claims (
    tenant text COLLATE "C" NOT NULL, -- '-system'
    claim  text COLLATE "C" NOT NULL, -- SHA-256 of place, check value or tenant, in hexadecimal
    owner  text COLLATE "C" NOT NULL, -- the tenant and the KEK's id and version
    PRIMARY KEY (tenant, claim)
);

-- PINs that somebody brought for a token and that were not accepted there, counted for all nodes before each is tried. Nothing of
-- a PIN is here.
CREATE TABLE pin_guesses (
    tenant text COLLATE "C" NOT NULL, -- who brought them; '-system' for tenants that are being made
    token  text COLLATE "C" NOT NULL, -- the token's serial number
    tried  bigint           NOT NULL, -- how many
    last   bigint           NOT NULL, -- when the last one was begun
    PRIMARY KEY (tenant, token)
);
CREATE INDEX pin_guesses_to_purge ON pin_guesses (last);

-- The number of each tenant's settings; it grows with every change of a row that decides.
CREATE TABLE generations (
    tenant     text COLLATE "C" NOT NULL, -- whose
    generation bigint           NOT NULL, -- the number
    PRIMARY KEY (tenant)
);

-- Generations that a node waits to move on: until then no batch begins to share them. Nothing rests on it.
CREATE TABLE awaited_generations (
    tenant text COLLATE "C" NOT NULL, -- whose
    until  bigint           NOT NULL, -- how long, by the server's clock
    PRIMARY KEY (tenant)
);

-- The access log: exact bytes. The other columns serve look-ups only; a reader compares them with the leaf.
CREATE TABLE access_log (
    tenant         text COLLATE "C" NOT NULL, -- whose log
    boot           bytea            NOT NULL, -- the start of the node that wrote it
    lane           bigint           NOT NULL, -- the lane of that start
    number         bigint           NOT NULL, -- the place in the lane
    time           bigint           NOT NULL, -- when
    action         text COLLATE "C" NOT NULL, -- what
    outcome        text COLLATE "C" NOT NULL, -- how it ended
    value_id       bytea,                     -- the value
    actor_id       text COLLATE "C" NOT NULL, -- who
    flow           text COLLATE "C",          -- the flow
    app            text COLLATE "C",          -- the app
    object         text COLLATE "C",          -- table and key of the row that decides which it made
    object_version bigint,                    -- that row's version
    state_version  bigint,                    -- the value's state version from this entry on
    leaf           bytea            NOT NULL, -- version byte and canonical JSON, as hashed
    opening_key    bytea,                     -- data key (class log-opening) of the openings' seals; NULL is none, or erased
    on_behalf_of   bytea,                     -- sealed opening of a personal member: for whom, in the caller's words
    address        bytea,                     -- likewise: the peer address
    actor_name     bytea,                     -- likewise: display name of the actor
    reference      bytea,                     -- likewise: the caller's reference
    PRIMARY KEY (tenant, boot, lane, number)
);
CREATE INDEX access_log_by_value ON access_log (tenant, value_id, state_version) WHERE value_id IS NOT NULL;
-- Ends of boots: few rows, asked at each start.
CREATE INDEX access_log_farewells ON access_log (tenant, action) WHERE action = 'node.stopped';
CREATE UNIQUE INDEX access_log_by_object ON access_log (tenant, object, object_version) WHERE object IS NOT NULL;

-- Batches as their node signed them; each is chained to the one before it in its lane.
CREATE TABLE log_batches (
    tenant    text COLLATE "C" NOT NULL, -- '-system': a batch spans tenants
    boot      bytea            NOT NULL, -- the start of the node
    lane      bigint           NOT NULL, -- the lane
    first     bigint           NOT NULL, -- the first number
    count     bigint           NOT NULL, -- how many entries
    time      bigint           NOT NULL, -- the batch's clock
    previous  bytea            NOT NULL, -- SHA-256 of the lane's previous signature; zeros in the first
    root      bytea            NOT NULL, -- root over the groups
    signature bytea            NOT NULL, -- the node's signature
    PRIMARY KEY (tenant, boot, lane, first)
);

-- Each tenant's share of a batch: leaf of the tree whose root is signed.
CREATE TABLE log_groups (
    tenant text COLLATE "C" NOT NULL, -- whose entries
    boot   bytea            NOT NULL, -- the start of the node
    lane   bigint           NOT NULL, -- the lane
    first  bigint           NOT NULL, -- the first number of this tenant in the batch
    count  bigint           NOT NULL, -- how many entries of this tenant
    batch  bigint           NOT NULL, -- the batch's first number
    salt   bytea            NOT NULL, -- 16 random bytes
    hash   bytea            NOT NULL, -- SHA-256 over the entries' length-prefixed bytes
    PRIMARY KEY (tenant, boot, lane, first)
);
CREATE INDEX log_groups_by_batch ON log_groups (boot, lane, batch, first);

-- Lanes and how far each is integrated.
CREATE TABLE log_lanes (
    tenant   text COLLATE "C" NOT NULL, -- '-system'
    boot     bytea            NOT NULL, -- the start of the node
    lane     bigint           NOT NULL, -- the lane
    opened   bigint           NOT NULL, -- when its first batch was written
    next     bigint           NOT NULL, -- the number from which on nothing is integrated
    previous bytea            NOT NULL, -- SHA-256 of the signature of the last integrated batch; zeros before
    PRIMARY KEY (tenant, boot, lane)
);

-- Index of each tenant's log: which entries stand at which leaves. A row is a stretch: leaf_index + n is entry
-- number + n of the lane, for n under count; a step of integration makes one for each log.
CREATE TABLE log_index (
    tenant     text COLLATE "C" NOT NULL, -- whose log
    leaf_index bigint           NOT NULL, -- index of its first leaf; stretches follow each other from 0, without gaps
    count      bigint           NOT NULL, -- how many leaves
    boot       bytea            NOT NULL, -- position of its first entry
    lane       bigint           NOT NULL, -- position of its first entry
    number     bigint           NOT NULL, -- position of its first entry
    PRIMARY KEY (tenant, leaf_index),
    UNIQUE (tenant, boot, lane, number)
);

-- Hash tiles (C2SP tlog-tiles): 256 hashes of 32 bytes when full, fewer at the right edge.
CREATE TABLE log_tiles (
    tenant text COLLATE "C" NOT NULL, -- whose log
    level  bigint           NOT NULL, -- the tile's level
    tile   bigint           NOT NULL, -- the tile's index within its level
    hashes bytea            NOT NULL, -- the hashes
    PRIMARY KEY (tenant, level, tile)
);

-- The head of each log; compared and swapped, it is the only fence between sequencers.
CREATE TABLE log_heads (
    tenant text COLLATE "C" NOT NULL, -- whose log
    size   bigint           NOT NULL, -- number of leaves
    root   bytea            NOT NULL, -- root of the tree, 32 bytes
    PRIMARY KEY (tenant)
);

-- Signed tree heads: stored before they are shown, never two for one size.
CREATE TABLE checkpoints (
    tenant text COLLATE "C" NOT NULL, -- whose log
    size   bigint           NOT NULL, -- number of leaves
    time   bigint           NOT NULL, -- when it was signed
    note   text COLLATE "C" NOT NULL, -- the signed note
    PRIMARY KEY (tenant, size)
);

-- The last sign of life of each start of a node, signed by its key.
CREATE TABLE heartbeats (
    tenant    text COLLATE "C" NOT NULL, -- '-system'
    boot      bytea            NOT NULL, -- the start of the node
    time      bigint           NOT NULL, -- when
    lanes     bytea            NOT NULL, -- per lane: its number, its next entry's number, hash of its last signature (44 bytes)
    signature bytea            NOT NULL, -- the node's signature
    PRIMARY KEY (tenant, boot)
);

-- Boots that may write: a boot's row is there from before its first entry until it ends or another node closes it. Every
-- batch holds its boot's row, so that nothing is written into a lane once the row is gone.
CREATE TABLE open_boots (
    tenant text COLLATE "C" NOT NULL, -- '-system'
    boot   bytea            NOT NULL, -- the start of the node
    PRIMARY KEY (tenant, boot)
);

-- Boots that somebody begins to close: noted before the row above goes, until the entries that say where the boot ended are written. If
-- whoever closes it goes away in the middle, another node finds it here.
CREATE TABLE closing_boots (
    tenant text COLLATE "C" NOT NULL, -- '-system'
    boot   bytea            NOT NULL, -- the start of the node
    PRIMARY KEY (tenant, boot)
);

-- Whose database this is; the key store carries the same id.
CREATE TABLE installation (
    tenant          text COLLATE "C" NOT NULL, -- '-system'
    installation_id bytea            NOT NULL, -- the id in both durable places
    realm           text COLLATE "C" NOT NULL, -- the realm
    created         bigint           NOT NULL, -- when
    PRIMARY KEY (tenant)
);
