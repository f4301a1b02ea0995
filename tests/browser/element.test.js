// The element's own law: what it tells, when it captures, what it does when things go wrong.
import assert from 'node:assert/strict';
import test from 'node:test';

import { CARD, blank, count, fillCard, focused, inState, inside, ready, shop, type } from './support/browser.js';
import { ask, captureToken, dev } from './support/vault.js';
import { site } from './support/site.js';

/** Puts a field beside the shop's own; its errors are kept in `window.told`. */
async function put(page, attributes) {
  await page.evaluate(async (given) => {
    window.told = [];
    const one = document.createElement('secure-input');
    for (const [name, value] of Object.entries({ id: 'own', ...given })) one.setAttribute(name, value);
    one.addEventListener('secure-error', ({ who, code, retryable, error }) => window.told.push({ who, code, retryable, name: error.name }));
    document.querySelector('.aside').append(one);
    await one.ready.catch(() => {});
  }, { app: dev.app, ...attributes });
}

const capture = (page, id) => page.evaluate((one) => document.getElementById(one).capture().then((value) => ({ value }), ({ name, who, code, retryable }) => ({ error: { name, who, code, retryable } })), id);

test('what the page gets is a key and an expiry, and no more', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', CARD);
  await inState(page, 'card', 'complete');
  const { value } = await capture(page, 'card');
  assert.deepEqual(Object.keys(value).sort(), ['expiresAt', 'secureValueKey']);
  assert.match(value.secureValueKey, /^svk_[0-9a-hjkmnp-tv-z]{64}$/);
  assert.equal(await inside(page, 'card').inputValue(), '', 'the frame forgets what the vault has');
  assert.deepEqual((await capture(page, 'card')).value, value, 'captured once');
});

test('events say that something changed, never what or how much', async (t) => {
  const { page } = await shop(t, '/login.html');
  await page.evaluate(() => {
    window.events = [];
    const names = ['secure-ready', 'secure-change', 'secure-focus', 'secure-blur', 'secure-enter', 'secure-error'];
    for (const name of names) document.addEventListener(name, (event) => window.events.push([name, JSON.stringify(event.state ?? null), event.constructor.name, Object.keys(event)]));
    for (const name of ['keydown', 'keyup', 'keypress', 'beforeinput', 'input', 'change', 'paste', 'copy', 'cut', 'compositionstart', 'compositionend', 'selectionchange']) {
      window.addEventListener(name, ({ key }) => window.events.push([name, key]), true);
    }
  });
  await type(page, 'password', 'a rather long password, typed key by key');
  await inside(page, 'password').press('Tab');
  await page.waitForFunction(() => window.events.some(([name]) => name === 'secure-blur'));
  const events = await page.evaluate(() => window.events);
  const changes = events.filter(([name]) => name === 'secure-change').map(([, state]) => state);
  assert.deepEqual(changes, [
    '{"empty":false,"complete":false,"valid":false,"code":"too_short"}',
    '{"empty":false,"complete":true,"valid":true,"code":null}',
  ]);
  // The Tab key is released when the focus is in the page already.
  const own = events.filter(([name, key]) => !name.startsWith('secure-') && name !== 'selectionchange' && key !== 'Tab');
  assert.deepEqual(own, [], 'keys, input and paste stay in the frame');
});

test('masks group what is typed and what is pasted, and typing stops where no more can be', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', '42424242x42424242999');
  assert.equal(await inside(page, 'card').inputValue(), '4242 4242 4242 4242 999');
  await inside(page, 'card').fill('');
  await inside(page, 'card').evaluate((input) => { input.focus(); document.execCommand('insertText', false, '  3782-8224\n6310005 '); });
  assert.equal(await inside(page, 'card').inputValue(), '3782 822463 10005');
  assert.equal(await page.evaluate(() => document.getElementById('card').state.brand), 'amex');
  await type(page, 'expiry', '739');
  assert.equal(await inside(page, 'expiry').inputValue(), '07 / 39');
  await type(page, 'cvc', '12345');
  assert.equal(await inside(page, 'cvc').inputValue(), '1234');
});

test('the cursor stays where the person put it', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', '42424242');
  await inside(page, 'card').evaluate((input) => input.setSelectionRange(2, 2));
  await page.keyboard.type('11');
  assert.equal(await inside(page, 'card').inputValue(), '4211 4242 42');
  assert.equal(await inside(page, 'card').evaluate((input) => input.selectionStart), 4);
});

test('what is in the field cannot be copied, cut or dragged out', async (t) => {
  const { page } = await shop(t, '/login.html');
  await type(page, 'password', 'hunter22hunter');
  const prevented = await inside(page, 'password').evaluate((input) => ['copy', 'cut', 'dragstart'].map((name) => !input.dispatchEvent(new Event(name, { cancelable: true, bubbles: true }))));
  assert.deepEqual(prevented, [true, true, true]);
  const attributes = await inside(page, 'password').evaluate((input) => [input.type, input.spellcheck, input.autocomplete, input.getAttribute('autocapitalize'), input.getAttribute('translate')]);
  assert.deepEqual(attributes, ['password', false, 'current-password', 'none', 'no']);
});

test('nothing is said in the middle of a composition', async (t) => {
  const { page } = await shop(t, '/login.html');
  await type(page, 'password', 'abcdefgh');
  await page.evaluate(() => { window.changes = 0; document.addEventListener('secure-change', () => { window.changes += 1; }); });
  await inside(page, 'password').evaluate((input) => {
    input.dispatchEvent(new CompositionEvent('compositionstart'));
    input.value = '';
    input.dispatchEvent(new InputEvent('input', { isComposing: true }));
  });
  await page.waitForTimeout(150);
  assert.equal(await page.evaluate(() => window.changes), 0);
  await inside(page, 'password').evaluate((input) => { input.value = 'p\u00e4ssw\u00f6rd\u{1f600}'; input.dispatchEvent(new CompositionEvent('compositionend')); });
  assert.equal(await page.evaluate(() => document.getElementById('password').valid), true);
});

test('whoever types again takes the old key back', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', CARD);
  await capture(page, 'card');
  assert.match(await page.evaluate(() => new FormData(document.getElementById('checkout')).get('card')), /^svk_/);
  await inState(page, 'card', 'captured');
  await type(page, 'card', '4');
  await page.waitForFunction(() => document.getElementById('card').secureValueKey === null);
  assert.equal(await page.evaluate(() => new FormData(document.getElementById('checkout')).get('card')), null);
});

test('a form that is reset forgets on both sides', async (t) => {
  const { page } = await shop(t);
  await fillCard(page);
  await capture(page, 'cvc');
  await page.evaluate(() => document.getElementById('checkout').reset());
  await page.waitForFunction(() => [...document.querySelectorAll('secure-input')].every((one) => one.empty && !one.secureValueKey));
  assert.equal(await inside(page, 'card').inputValue(), '');
});

test('a disabled field takes nothing and blocks nothing', async (t) => {
  const { page } = await shop(t);
  await page.evaluate(() => document.getElementById('card').setAttribute('disabled', ''));
  await page.waitForFunction(() => document.getElementById('card').matches(':disabled'));
  assert.ok(await inside(page, 'card').isDisabled());
  await page.evaluate(() => document.getElementById('card').removeAttribute('disabled'));
  await inside(page, 'card').fill(CARD);
});

test('a field that is moved starts anew, and a field that is removed leaves nothing behind', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', CARD);
  await page.evaluate(async () => {
    const one = document.getElementById('card');
    document.querySelector('.aside').append(one);
    await one.ready;
  });
  assert.equal(await inside(page, 'card').inputValue(), '');
  await page.evaluate(() => document.getElementById('card').remove());
  await assert.doesNotReject(async () => { while (page.frames().length > 3) await page.waitForEvent('framedetached', { timeout: 5000 }); }, 'the page and two fields');
});

test('a session that does not exist is a typed error, and the field says that it cannot be used', async (t) => {
  const { page } = await shop(t);
  await page.evaluate(() => customElements.get('secure-input').configure({}));
  await put(page, { field: 'password', 'capture-token': `siv_cap_${'A'.repeat(64)}` });
  const told = await page.evaluate(() => window.told);
  assert.deepEqual(told, [{ who: 'vault', code: 'auth.invalid', retryable: false, name: 'SecureInputError' }]);
  assert.ok(await page.evaluate(() => document.getElementById('own').matches(':state(failed)')));
  await page.evaluate((token) => document.getElementById('own').setAttribute('capture-token', token), await captureToken(['password']));
  await ready(page);
  await inside(page, 'own').fill('password now');
  assert.match((await capture(page, 'own')).value.secureValueKey, /^svk_/);
});

test('a session that has ended is a typed error where nobody can renew it', async (t) => {
  const { page } = await shop(t);
  await page.evaluate(() => customElements.get('secure-input').configure({}));
  await put(page, { field: 'password', 'capture-token': await captureToken(['password'], { ttlSeconds: 3 }) });
  await inside(page, 'own').fill('long enough');
  await page.waitForTimeout(4500);
  const { error } = await capture(page, 'own');
  assert.equal(error.name, 'SecureInputError');
  assert.match(error.code, /^auth\.(expired|invalid)$/);
  assert.equal(await inside(page, 'own').inputValue(), 'long enough', 'nobody has to type it again');
});

test('a session that has ended is renewed where the page says how', async (t) => {
  const { page } = await shop(t, '/login.html');
  await put(page, { field: 'password', 'capture-token': await captureToken(['password'], { ttlSeconds: 3 }) });
  await inside(page, 'own').fill('long enough');
  await page.waitForTimeout(4500);
  assert.match((await capture(page, 'own')).value?.secureValueKey ?? '', /^svk_/);
});

test('a session that is used up is renewed where the page says how, and is a typed error where not', async (t) => {
  const { page } = await shop(t, '/login.html');
  await put(page, { field: 'password', 'capture-token': await captureToken(['password'], { maxValues: 1 }) });
  const keys = new Set();
  for (const text of ['the first one', 'the second one']) {
    await inside(page, 'own').fill(text);
    keys.add((await capture(page, 'own')).value?.secureValueKey);
    await page.evaluate(() => document.getElementById('own').clear());
  }
  assert.equal(keys.size, 2);
  assert.ok(!keys.has(undefined));
  await page.evaluate(() => customElements.get('secure-input').configure({}));
  await page.evaluate((token) => document.getElementById('own').setAttribute('capture-token', token), await captureToken(['password'], { maxValues: 1 }));
  await page.waitForTimeout(500);
  const outcomes = [];
  for (const text of ['the third one', 'the fourth one']) {
    await inside(page, 'own').fill(text);
    outcomes.push((await capture(page, 'own')).error?.code ?? 'captured');
    await page.evaluate(() => document.getElementById('own').clear());
  }
  assert.deepEqual(outcomes, ['captured', 'conflict']);
});

test('a field the app does not have is an error, not a text field', async (t) => {
  const { page } = await shop(t);
  await put(page, { field: 'pin-of-your-bank' });
  assert.equal((await page.evaluate(() => window.told))[0].code, 'field_unknown');
  assert.equal(await page.frameLocator('#own iframe').locator('input').count(), 0);
});

test('an answer that is lost on the way is asked for again and gives the same key', async (t) => {
  const { page, seen } = await shop(t);
  const keys = [];
  const answers = [];
  await page.route('**/v1/capture/values', async (route) => {
    keys.push(route.request().headers()['idempotency-key']);
    const answer = await route.fetch();
    answers.push((await answer.json()).values?.[0]?.secureValueKey);
    await (keys.length === 1 ? route.abort('connectionreset') : route.fulfill({ response: answer }));
  });
  await type(page, 'card', CARD);
  const { value } = await capture(page, 'card');
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
  assert.equal(answers[0], answers[1]);
  assert.equal(value.secureValueKey, answers[0]);
  assert.equal(count(seen, '/v1/capture/values'), 2);
});

test('a vault that is away keeps the text in the field and says that it may be tried again', async (t) => {
  const { page } = await shop(t);
  await page.route('**/v1/capture/values', (route) => route.abort('connectionrefused'));
  await type(page, 'card', CARD);
  const { error } = await capture(page, 'card');
  assert.deepEqual(error, { name: 'SecureInputError', who: 'vault', code: 'network', retryable: true });
  assert.equal(await inside(page, 'card').inputValue(), '4242 4242 4242 4242');
  await page.unroute('**/v1/capture/values');
  assert.match((await capture(page, 'card')).value.secureValueKey, /^svk_/);
});

test('all fields of a form or none', async (t) => {
  const { page, seen } = await shop(t);
  await type(page, 'card', CARD);
  await type(page, 'expiry', '1239');
  const code = await page.evaluate(() => customElements.get('secure-input').capture(document.getElementById('checkout')).catch((error) => `${error.field} ${error.code}`));
  assert.equal(code, 'card-cvc empty');
  assert.equal(count(seen, '/v1/capture/values'), 0);
  assert.equal(await page.evaluate(() => document.getElementById('card').secureValueKey), null);
});

test('a frame that does not load is tried again and then says so', async (t) => {
  const { page } = await blank(t);
  let tries = 0;
  await page.route('**/f/**', (route) => { tries += 1; return route.abort(); });
  await page.goto(`${dev.demo}/login.html`);
  await page.waitForFunction(() => document.querySelector('secure-input')?.matches(':state(failed)'), null, { timeout: 30_000 });
  assert.equal(tries, 3);
  assert.match(await page.locator('#password').evaluate((one) => one.shadowRoot.querySelector('[part=fallback]').innerText), /could not be loaded/);
  await page.unroute('**/f/**');
  await page.locator('#password [part=retry]').click();
  await ready(page);
  await inside(page, 'password').fill('works again');
});

test('an element that somebody else defined first is an error that cannot be missed', async (t) => {
  const { page, seen } = await blank(t);
  await page.addInitScript(() => customElements.define('secure-input', class extends HTMLElement {}));
  await page.goto(`${dev.demo}/login.html`);
  await page.waitForTimeout(500);
  assert.ok(seen.errors.some((error) => error.includes('secure-input is defined already')), seen.errors.join());
});

test('a plain form on a static page needs no code at all', async (t) => {
  const pages = {};
  const { origin, posted } = await site(t, pages);
  const name = `static-${Date.now()}`;
  const document = `name = "${name}"\norigins = ["${origin}"]\nsession_mode = "open"\n\n[fields.note]\ntype = "text"\npurposes = ["support"]\nflows = ["card-summary"]\n`;
  await ask('operator', 'PUT', `/v1/apps/${name}`, document.replace('flows = ["card-summary"]\n', ''), 'application/toml');
  const { versions } = await (await fetch(`${dev.public}/client/manifest.json`)).json();
  const { version, files } = versions[0];
  pages['/'] = `<!doctype html><title>static</title>
    <script type="module" crossorigin src="${dev.public}/client/${version}/secure-input.js" integrity="${files['secure-input.js']}"></script>
    <form method="post" action="/sent"><label for="note">Note</label><secure-input id="note" app="${name}" field="note" name="note" required></secure-input>
    <input name="plain" value="1"><button name="button" value="send">Send</button></form>`;
  pages['/sent'] = '<!doctype html><title>sent</title>';
  const { page } = await blank(t);
  await page.goto(origin);
  await ready(page);
  await type(page, 'note', 'nobody but the vault reads this');
  await inside(page, 'note').press('Enter');
  await page.waitForURL('**/sent');
  assert.match(posted[0], /^note=svk_[0-9a-z]{64}&plain=1&button=send$/);
});

test('a required field that is empty blocks the form as any field does', async (t) => {
  const { page, seen } = await shop(t, '/login.html');
  await page.click('form .action');
  await inState(page, 'password', 'invalid');
  await focused(page, 'password');
  assert.equal(count(seen, '/api/login'), 0);
  assert.deepEqual(await page.evaluate(() => { const { valueMissing, valid } = document.getElementById('password').validity; return { valueMissing, valid }; }), { valueMissing: true, valid: false });
});
