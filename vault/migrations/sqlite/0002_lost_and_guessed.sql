-- Marks of data keys that ended with a KEK version whose token two custodians stated to be lost: what is gone for that was not
-- taken away by somebody.
CREATE TABLE lost_data_keys (
    tenant      TEXT    NOT NULL, -- whose it was
    data_key_id BLOB    NOT NULL, -- its id
    kek_id      BLOB    NOT NULL, -- the KEK that wrapped it
    kek_version INTEGER NOT NULL, -- that KEK's version
    mac         BLOB    NOT NULL, -- HMAC under the key store's key `data-key`, 32 bytes
    PRIMARY KEY (tenant, data_key_id)
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
