// A field in pages that load late, are left early, change their look, or hold two of a kind.
import assert from 'node:assert/strict';
import test from 'node:test';

import { blank, focused, inState, inside, ready, shop, type } from './support/browser.js';
import { captureToken, dev } from './support/vault.js';

/** Holds back what matches until the returned function is called. */
async function held(page, pattern) {
  let open = () => {};
  const gate = new Promise((resolve) => { open = resolve; });
  await page.route(pattern, async (route) => {
    await gate;
    await route.continue().catch(() => {});
  });
  return open;
}

/** Puts fields into a form of their own; what is told of each is kept in `window.told`. */
const put = (page, ...fields) => page.evaluate(([app, all]) => {
  window.told = [];
  const form = document.createElement('form');
  form.id = 'own';
  for (const given of all) {
    const one = document.createElement('secure-input');
    for (const [name, value] of Object.entries({ app, ...given })) one.setAttribute(name, value);
    one.addEventListener('secure-error', (event) => {
      event.stopPropagation();
      window.told.push(`${one.id} ${event.code}`);
    });
    form.append(one);
  }
  document.querySelector('.aside').append(form);
}, [dev.app, fields]);

test('a page that says late how to get a token has working fields all the same', async (t) => {
  const { page } = await blank(t);
  const go = await held(page, '**/shop.js');
  await page.goto(`${dev.demo}/login.html`, { waitUntil: 'commit' });
  // The app opens no sessions from frames, so without the page's word the field fails.
  await page.waitForFunction(() => document.getElementById('password')?.matches(':state(failed)'));
  go();
  await page.waitForFunction(() => !document.getElementById('password').matches(':state(failed), :state(loading)'));
  await type(page, 'password', 'late but working');
  assert.match(await page.evaluate(async () => (await document.getElementById('password').capture()).secureValueKey), /^svk_/);
});

test('a page that says it while the frame asks has working fields too', async (t) => {
  const { page } = await blank(t);
  const [go, answer] = [await held(page, '**/shop.js'), await held(page, '**/v1/capture/sessions/open')];
  const asked = page.waitForRequest('**/v1/capture/sessions/open');
  await page.goto(`${dev.demo}/login.html`, { waitUntil: 'commit' });
  await asked;
  go();
  await page.waitForResponse('**/api/capture-session');
  answer();
  await page.waitForFunction(() => !document.getElementById('password').matches(':state(failed), :state(loading)'));
  await inside(page, 'password').fill('works as well');
});

const byScript = (page) => page.evaluate(() => document.getElementById('password').focus());
for (const [how, focus, late] of [
  ['by focus() before its rules came', byScript, '**/v1/capture/session'],
  ['by its label before its rules came', (page) => page.click('label[for=password]'), '**/v1/capture/session'],
  ['by focus() before its frame came', byScript, '**/f/**'],
]) {
  test(`a field that was focused ${how} takes what is typed once it is ready`, async (t) => {
    const { page } = await blank(t);
    const go = await held(page, late);
    const asked = page.waitForRequest(late);
    await page.goto(`${dev.demo}/login.html`, { waitUntil: 'commit' });
    await asked;
    await focus(page);
    go();
    await ready(page);
    await focused(page, 'password');
    await page.keyboard.type('typed at once');
    assert.equal(await inside(page, 'password').inputValue(), 'typed at once');
  });
}

test('fields with different tokens are captured together where the page says how to get one for all', async (t) => {
  const { page } = await shop(t);
  await put(
    page,
    { id: 'one', field: 'card-expiry', 'capture-token': await captureToken(['card-expiry']) },
    { id: 'two', field: 'card-cvc', 'capture-token': await captureToken(['card-cvc']) },
  );
  await ready(page);
  await inside(page, 'one').fill('12 / 39');
  await inside(page, 'two').fill('123');
  const capture = () => page.evaluate(() => customElements.get('secure-input').capture(document.getElementById('own')).then(({ values }) => values.map(({ field }) => field), ({ code }) => code));
  assert.deepEqual(await capture(), ['card-expiry', 'card-cvc']);
});

for (const [how, act] of [
  ['captured', (form) => form.elements[0].empty && customElements.get('secure-input').capture(form).then(({ values }) => values.map(({ secureValueKey }) => secureValueKey))],
  ['submitted', (form) => form.elements[0].empty && new Promise((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      resolve([...new FormData(form).values()]);
    });
    form.requestSubmit();
  })],
]) {
  test(`what was typed into a field that may stay empty is ${how} although the page has not heard of it yet`, async (t) => {
    const { page } = await blank(t);
    // What a frame says reaches the page late, and in its order.
    await page.addInitScript(() => {
      if (window !== top) return;
      const { set } = Object.getOwnPropertyDescriptor(MessagePort.prototype, 'onmessage');
      Object.defineProperty(MessagePort.prototype, 'onmessage', { set(hear) { set.call(this, (event) => setTimeout(hear, 500, event)); } });
    });
    await page.goto(`${dev.demo}/`);
    await put(page, { id: 'one', field: 'card-cvc', name: 'cvc' });
    await ready(page);
    await inside(page, 'one').fill('123');
    const handle = await page.$('#own');
    const keys = await handle.evaluate(act);
    assert.equal(keys.length, 1);
    assert.match(keys[0], /^svk_/);
  });
}

test('fields with different tokens are a typed error where nobody can get another', async (t) => {
  const { page } = await shop(t);
  await page.evaluate(() => customElements.get('secure-input').configure({}));
  await put(
    page,
    { id: 'one', field: 'card-expiry', 'capture-token': await captureToken(['card-expiry']) },
    { id: 'two', field: 'card-cvc', 'capture-token': await captureToken(['card-cvc']) },
  );
  await ready(page);
  await inside(page, 'one').fill('12 / 39');
  await inside(page, 'two').fill('123');
  const code = await page.evaluate(() => customElements.get('secure-input').capture(document.getElementById('own')).catch((error) => error.code));
  assert.equal(code, 'mixed_sessions');
});

test('a theme that is switched at run time reaches the text in the frame', async (t) => {
  const { page } = await shop(t);
  await page.evaluate(() => {
    const { style } = document.documentElement;
    for (const [name, colour] of [['--ink', 'rgb(1, 2, 3)'], ['--paper', 'rgb(250, 240, 230)'], ['--hint', 'rgb(90, 80, 70)']]) style.setProperty(name, colour);
  });
  const look = () => inside(page, 'card').evaluate((input) => [input.style.color, input.style.backgroundColor, input.style.getPropertyValue('--placeholder-color')]);
  const wanted = ['rgb(1, 2, 3)', 'rgb(250, 240, 230)', 'rgb(90, 80, 70)'];
  for (let tries = 0; tries < 50 && JSON.stringify(await look()) !== JSON.stringify(wanted); tries += 1) await page.waitForTimeout(100);
  assert.deepEqual(await look(), wanted);
});

test('of two fields with one name the right one is told', async (t) => {
  const { page } = await shop(t, '/login.html');
  await put(page, { id: 'one', field: 'password', required: '' }, { id: 'two', field: 'password', required: '' });
  await ready(page);
  await inside(page, 'one').fill('long enough');
  await inState(page, 'one', 'complete');
  const code = await page.evaluate(() => customElements.get('secure-input').capture(document.getElementById('own')).catch((error) => error.code));
  assert.equal(code, 'empty');
  assert.deepEqual(await page.evaluate(() => window.told), ['two empty']);
});

test('capturing nothing is told by event and by promise', async (t) => {
  const { page } = await shop(t);
  await put(page, { id: 'one', field: 'card-cvc' });
  await ready(page);
  assert.equal(await page.evaluate(() => document.getElementById('one').capture().catch((error) => `${error.who} ${error.code}`)), 'field empty');
  assert.deepEqual(await page.evaluate(() => window.told), ['one empty']);
});

test('a field that fails while nobody waits for it is no unhandled error of the page', async (t) => {
  const { page, seen } = await shop(t);
  await put(page, { id: 'one', field: 'nothing-of-the-kind' });
  await inState(page, 'one', 'failed');
  await page.waitForTimeout(200);
  assert.deepEqual(seen.errors, []);
  const line = await page.evaluate(() => document.getElementById('one').shadowRoot.querySelector('.line').getBoundingClientRect().height);
  assert.equal(line, 0, 'its words stand where the text would stand');
});

test('no page has a card filled in as something else', async (t) => {
  const { page } = await shop(t);
  await put(page, { id: 'one', field: 'card-cvc', autocomplete: 'current-password' }, { id: 'two', field: 'card-number', autocomplete: 'off' });
  await ready(page);
  for (const [id, name] of [['one', 'cc-csc'], ['two', 'cc-number']]) assert.equal(await inside(page, id).evaluate((input) => input.autocomplete), name);
});

test('the shop opened by the number of the machine is sent to its name, and its fields work', async (t) => {
  const { page } = await blank(t);
  await page.goto(`${dev.demo.replace('localhost', '127.0.0.1')}/login.html`);
  assert.equal(page.url(), `${dev.demo}/login.html`);
  await ready(page);
  await inside(page, 'password').fill('works here');
});

test('every answer of the shop and of the frame says how it may be used', async () => {
  const headers = async (url) => Object.fromEntries((await fetch(url)).headers);
  const page = await headers(`${dev.demo}/`);
  assert.equal(page['referrer-policy'], 'no-referrer');
  assert.match(page['permissions-policy'], /camera=\(\)/);
  for (const path of ['/', '/api/seen', '/shop.css', '/nothing']) {
    const answer = await headers(`${dev.demo}${path}`);
    assert.equal(answer['x-content-type-options'], 'nosniff', path);
    assert.equal(answer['cross-origin-resource-policy'], 'same-origin', path);
  }
  assert.equal((await headers(`${dev.public}/f/${dev.app}/`))['cross-origin-opener-policy'], 'same-origin');
});
