// The frame's three requests to its own origin. Retries what may be retried; the words of an answer are codes.

import { requestKey } from './seal.js';

/** A refusal in the vault's words, or `network`, `timeout`, `answer`. */
export class VaultError extends Error {
  /** @param {string} code @param {boolean} retryable @param {string} [field] */
  constructor(code, retryable, field) {
    super(code);
    this.code = code;
    this.retryable = retryable;
    this.field = field;
  }
}

const PAUSES = [400, 1200, 2800];
const TIMEOUT = 15_000;

/** Gets a capture session for a static page. @param {string} app @returns {Promise<{captureToken: string}>} */
export const mint = (app) => send('POST', '/v1/capture/sessions/open', {}, { app });

/** @typedef {{app: string, fields: (import('./fields.js').FieldSpec & {field: string})[], keys: {keyId: string, kem: string, publicKey: string}[], expiresAt: string}} Session */

/** What the token allows. @param {string} token @returns {Promise<Session>} */
export const describe = (token) => send('GET', '/v1/capture/session', { authorization: `Bearer ${token}` });

/**
 * Posts sealed bodies, all or none. The same bodies again are the same request.
 * @param {string} token @param {{field: string, sealed: string}[]} values
 * @returns {Promise<{values: {field: string, secureValueKey: string, expiresAt?: string|null}[]}>}
 */
export async function captureValues(token, values) {
  const key = await requestKey(values.map((value) => value.sealed));
  return send('POST', '/v1/capture/values', { authorization: `Bearer ${token}`, 'idempotency-key': key }, { values });
}

/** @param {string} method @param {string} path @param {Record<string, string>} headers @param {object} [body] @returns {Promise<any>} */
async function send(method, path, headers, body) {
  for (const pause of [...PAUSES, 0]) {
    const failure = await once(method, path, headers, body).catch((error) => error);
    if (!(failure instanceof Error)) return failure;
    if (!(failure instanceof VaultError) || !failure.retryable || !pause) throw failure;
    await new Promise((resolve) => setTimeout(resolve, pause + Math.random() * 200));
  }
}

/** @param {string} method @param {string} path @param {Record<string, string>} headers @param {object} [body] */
async function once(method, path, headers, body) {
  const answer = await fetch(path, {
    method,
    headers: body ? { ...headers, 'content-type': 'application/json' } : headers,
    body: body && JSON.stringify(body),
    credentials: 'omit',
    redirect: 'error',
    cache: 'no-store',
    signal: AbortSignal.timeout(TIMEOUT),
  }).catch((error) => {
    throw new VaultError(error?.name === 'TimeoutError' ? 'timeout' : 'network', true);
  });
  const read = await answer.json().catch(() => null);
  if (answer.ok && read) return read;
  const code = typeof read?.code === 'string' ? read.code : 'answer';
  const retryable = [429, 502, 503, 504].includes(answer.status) || code === 'idempotency.in_progress';
  throw new VaultError(code, retryable);
}
