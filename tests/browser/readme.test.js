// What the README says to copy into a page: its element and its policy, as they stand there, on a page of another origin.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { CARD, blank, inState, ready, type } from './support/browser.js';
import { site } from './support/site.js';
import { ask, dev } from './support/vault.js';

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

/** The fenced block after a text. */
function block(after) {
  const [, text] = README.slice(README.indexOf(after)).match(/```\w*\n([\s\S]*?)```/) ?? [];
  assert.ok(text, after);
  return text;
}

/** The README's names replaced by those of this vault. */
const here = (text) => text.replaceAll('https://vault.example', dev.public).replaceAll('demo-shop', 'readme-shop');

test('the page and the policy of the README work as they stand', async (t) => {
  const pages = {};
  const headers = { 'content-security-policy': here(block("page's Content-Security-Policy")).trim() };
  const { origin } = await site(t, pages, headers);
  const app = `name = "readme-shop"\norigins = ["${origin}"]\n[fields.card-number]\ntype = "card-number"\npurposes = ["support"]\nflows = ["card-summary"]\n`;
  await ask('operator', 'PUT', '/v1/apps/readme-shop?tenant=demo', app, 'application/toml');
  const made = await ask('operator', 'POST', '/v1/credentials?tenant=demo', { kind: 'app', name: 'readme', app: 'readme-shop' });
  const session = await fetch(`${dev.private}/v1/capture/sessions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${made.credential}`, 'content-type': 'application/json' },
    body: JSON.stringify({ app: 'readme-shop', fields: ['card-number'] }),
  });
  const { captureToken } = await session.json();
  const { versions } = await (await fetch(`${dev.public}/client/manifest.json`)).json();
  const [{ version, files }] = versions;
  const integrity = Object.entries(files).find(([path]) => path.endsWith('secure-input.js'))[1];
  assert.ok(integrity?.startsWith('sha384-'), JSON.stringify(versions));
  let page = here(block('## In a page')).replace('sha384-…', integrity).replace('capture-token="…"', `capture-token="${captureToken}"`);
  assert.ok(page.includes(`/client/${version}/secure-input.js`), 'the README names the version that is served');
  page = page.replace('<form ', '<form id="form" ');
  pages['/'] = `<!doctype html><title>as in the README</title>${page}`;
  const { page: opened, seen } = await blank(t);
  await opened.goto(origin);
  await ready(opened);
  await type(opened, 'card', CARD);
  await inState(opened, 'card', 'complete');
  await opened.evaluate(() => document.getElementById('card').capture());
  assert.match(await opened.evaluate(() => new FormData(document.getElementById('form')).get('card')), /^svk_/);
  assert.deepEqual(seen.console.filter((line) => /Content Security/.test(line)), []);
  // The path in frame-src: another app's frame is not shown.
  const blocked = await opened.evaluate((vault) => new Promise((done) => {
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => done(effectiveDirective));
    document.body.append(Object.assign(document.createElement('iframe'), { src: `${vault}/f/demo-shop/` }));
  }), dev.public);
  assert.equal(blocked, 'frame-src');
});
