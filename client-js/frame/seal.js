// The bytes of a sealed capture (docs/formats.md section 6): padding, what it is bound to, its spelling.

import { concat, seal } from './hpke.js';

const VERSION = 1;
const BUCKETS = [64, 256, 1024, 4096, 16384];
const encoder = new TextEncoder();

/** `lp(a, b, …)`: each field behind its length. @param {...(string|Uint8Array)} fields */
export function lp(...fields) {
  const parts = fields.map((field) => (typeof field === 'string' ? encoder.encode(field) : field));
  return concat(...parts.flatMap((part) => [u32(part.length), part]));
}

/** @param {number} number */
function u32(number) {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** Length ‖ text ‖ zeros up to the smallest bucket, so that nobody on the way sees how long the text is. @param {string} text */
export function pad(text) {
  const bytes = encoder.encode(text);
  const bucket = BUCKETS.find((size) => bytes.length + 4 <= size);
  if (!bucket) throw new RangeError('too_long');
  const padded = new Uint8Array(bucket);
  padded.set(u32(bytes.length));
  padded.set(bytes, 4);
  bytes.fill(0);
  return padded;
}

/** @param {Uint8Array} bytes */
export const toBase64Url = (bytes) =>
  btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

/** @param {string} text */
export const fromBase64Url = (text) =>
  Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));

/** The 16 bytes of the capture session's id: a capture token is `siv_cap_` ‖ base64url(id ‖ 32 secret bytes). @param {string} token */
export const sessionOf = (token) => fromBase64Url(token.slice('siv_cap_'.length)).slice(0, 16);

/**
 * version ‖ keyId ‖ enc ‖ ciphertext in base64url; bound to key, app, session and field, so it can be moved nowhere.
 * @param {string} text
 * @param {{keyId: string, publicKey: string}} key
 * @param {{app: string, session: Uint8Array, field: string}} place
 */
export async function sealCapture(text, key, { app, session, field }) {
  const keyId = fromBase64Url(key.keyId);
  const padded = pad(text);
  const { enc, ciphertext } = await seal(fromBase64Url(key.publicKey), lp('siv/v1/capture', keyId, app, session, field), padded);
  padded.fill(0);
  return toBase64Url(concat([VERSION], keyId, enc, ciphertext));
}

/** One idempotency key for one set of sealed bodies: sending the same again is the same request. @param {string[]} sealed */
export const requestKey = async (sealed) =>
  toBase64Url(new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(sealed.join('\n')))));
