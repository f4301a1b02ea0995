// HPKE base mode (RFC 9180): DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, one message per context. Nothing about fields or sessions.

const encoder = new TextEncoder();
const EC = { name: 'ECDH', namedCurve: 'P-256' };
const KEM = [...encoder.encode('KEM'), 0x00, 0x10];
/** The ids of HKDF-SHA256, of the AEAD and its key length. @type {Record<string, {id: number, bytes: number}>} */
const AEADS = { 'AES-128-GCM': { id: 1, bytes: 16 }, 'AES-256-GCM': { id: 2, bytes: 32 } };

/**
 * Bytes one behind the other.
 * @param {...ArrayLike<number>} parts
 */
export function concat(...parts) {
  const arrays = parts.map((part) => Uint8Array.from(part));
  const all = new Uint8Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** @param {Uint8Array<ArrayBuffer>} key @param {Uint8Array<ArrayBuffer>} bytes */
async function hmac(key, bytes) {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, bytes));
}

/** Section 4, LabeledExtract. @param {number[]} suite @param {string} label @param {ArrayLike<number>} ikm @param {Uint8Array} [salt] */
const extract = (suite, label, ikm, salt = new Uint8Array()) =>
  // An empty HMAC key is a key of zeros (RFC 5869 section 2.2), and WebCrypto refuses an empty one.
  hmac(salt.length ? concat(salt) : new Uint8Array(32), concat(encoder.encode('HPKE-v1'), suite, encoder.encode(label), ikm));

/** Section 4, LabeledExpand, for at most one block. @param {number[]} suite @param {Uint8Array<ArrayBuffer>} prk @param {string} label @param {ArrayLike<number>} info @param {number} length */
async function expand(suite, prk, label, info, length) {
  const labeled = concat([length >> 8, length & 255], encoder.encode('HPKE-v1'), suite, encoder.encode(label), info, [1]);
  return (await hmac(prk, labeled)).slice(0, length);
}

/**
 * Seals one message to a public key.
 * @param {Uint8Array<ArrayBuffer>} publicKey uncompressed point, 65 bytes
 * @param {Uint8Array} info
 * @param {Uint8Array<ArrayBuffer>} plaintext
 * @param {{ephemeral?: CryptoKeyPair, aad?: Uint8Array<ArrayBuffer>, aead?: string}} [given] for the vectors of the RFC
 * @returns {Promise<{enc: Uint8Array<ArrayBuffer>, ciphertext: Uint8Array<ArrayBuffer>}>}
 */
export async function seal(publicKey, info, plaintext, { ephemeral, aad, aead = 'AES-256-GCM' } = {}) {
  const { id, bytes } = AEADS[aead];
  const suite = [...encoder.encode('HPKE'), 0x00, 0x10, 0x00, 0x01, 0x00, id];
  // Section 4.1, Encap.
  const pair = ephemeral ?? (await crypto.subtle.generateKey(EC, false, ['deriveBits']));
  const receiver = await crypto.subtle.importKey('raw', publicKey, EC, false, []);
  const enc = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const dh = new Uint8Array(await crypto.subtle.deriveBits({ name: 'ECDH', public: receiver }, pair.privateKey, 256));
  const shared = await expand(KEM, await extract(KEM, 'eae_prk', dh), 'shared_secret', concat(enc, publicKey), 32);
  // Section 5.1, KeySchedule of mode base: no psk.
  const context = concat([0], await extract(suite, 'psk_id_hash', []), await extract(suite, 'info_hash', info));
  const secret = await extract(suite, 'secret', [], shared);
  const raw = await expand(suite, secret, 'key', context, bytes);
  const iv = await expand(suite, secret, 'base_nonce', context, 12);
  // Section 5.2, Seal with sequence number 0.
  const key = await crypto.subtle.importKey('raw', raw, 'AES-GCM', false, ['encrypt']);
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: aad ?? new Uint8Array() }, key, plaintext);
  for (const used of [dh, shared, secret, raw]) used.fill(0);
  return { enc, ciphertext: new Uint8Array(sealed) };
}
