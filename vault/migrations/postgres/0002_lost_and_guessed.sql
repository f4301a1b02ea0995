-- Marks of data keys that ended with a KEK version whose token two custodians stated to be lost: what is gone for that was not
-- taken away by somebody.
CREATE TABLE lost_data_keys (
    tenant      text COLLATE "C" NOT NULL, -- whose it was
    data_key_id bytea            NOT NULL, -- its id
    kek_id      bytea            NOT NULL, -- the KEK that wrapped it
    kek_version bigint           NOT NULL, -- that KEK's version
    mac         bytea            NOT NULL, -- HMAC under the key store's key `data-key`, 32 bytes
    PRIMARY KEY (tenant, data_key_id)
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
