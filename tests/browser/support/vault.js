// The running vault, as `siv dev` describes it in dev.json.
import { readFileSync } from 'node:fs';

const path = process.env.SIV_DEV_JSON;
if (!path) throw new Error('SIV_DEV_JSON names the dev.json of a running `siv dev`');

/** @type {{public: string, private: string, demo: string, app: string, credentials: {operator: string, app: string, auditor: string, flows: Record<string, string>}}} */
export const dev = JSON.parse(readFileSync(path, 'utf8'));

/** A request to the private listener, by a credential of dev.json or with that very one. */
export async function ask(credential, method, address, body, type = 'application/json') {
  const answer = await fetch(`${dev.private}${address}`, {
    method,
    headers: { authorization: `Bearer ${dev.credentials[credential] ?? credential}`, 'content-type': type, 'idempotency-key': crypto.randomUUID() },
    body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${address}: ${answer.status} ${text}`);
  return JSON.parse(text || 'null');
}

/** A capture token of the demo's app. */
export async function captureToken(fields, more = {}) {
  return (await ask('app', 'POST', '/v1/capture/sessions', { app: dev.app, fields, ...more })).captureToken;
}
