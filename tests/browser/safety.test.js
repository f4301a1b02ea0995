// What the page can see, and what it cannot: promise 1, from the browser's side.
import assert from 'node:assert/strict';
import test from 'node:test';

import { blank, fillCard, focused, inState, inside, ready, shop, type } from './support/browser.js';
import { dev } from './support/vault.js';
import { site } from './support/site.js';

/** Every spelling somebody may look for: whole, in groups, in base64, hex, reversed, and its last digits in a row. */
function spellings(text) {
  const bytes = Buffer.from(text);
  const offsets = [0, 1, 2].map((at) => Buffer.concat([Buffer.alloc(at), bytes]).toString('base64').slice(at ? 4 : 0, -4));
  return [text, text.replace(/(.{4})(?=.)/g, '$1 '), text.replace(/(.{4})(?=.)/g, '$1-'), encodeURIComponent(text), bytes.toString('hex'), [...text].reverse().join(''), ...offsets];
}

test('no trace of a card is anywhere the page could look', async (t) => {
  const { page, seen, context } = await shop(t);
  const canary = '4000056655665556';
  const answers = [];
  page.on('response', async (response) => answers.push(`${response.url()} ${JSON.stringify(response.headers())} ${await response.text().catch(() => '')}`));
  await page.evaluate(() => {
    window.heard = [];
    window.addEventListener('message', ({ data }) => window.heard.push(JSON.stringify(data)));
    for (const name of ['secure-ready', 'secure-change', 'secure-error', 'secure-enter']) document.addEventListener(name, (event) => window.heard.push(JSON.stringify([event.state, event.error, event.code])));
    new PerformanceObserver((list) => window.heard.push(JSON.stringify(list.getEntries()))).observe({ entryTypes: ['resource', 'event', 'mark', 'measure', 'navigation'] });
  });
  await fillCard(page, canary, '1139', '907');
  await page.click('form .action');
  await page.waitForSelector('#result:not([hidden])');
  const visible = await page.evaluate(async () => {
    const databases = await indexedDB.databases();
    const cached = await caches.keys();
    const deep = (root) => [root.innerHTML ?? '', ...[...root.querySelectorAll('*')].flatMap((one) => (one.shadowRoot ? deep(one.shadowRoot) : []))];
    const values = [...document.querySelectorAll('input')].map((one) => one.value);
    const elements = [...document.querySelectorAll('secure-input')].map((one) => {
      const all = [];
      for (let at = one; at && at !== HTMLElement.prototype; at = Object.getPrototypeOf(at)) for (const name of Object.getOwnPropertyNames(at)) try { all.push(`${name}=${JSON.stringify(one[name])}`); } catch { /* not a value */ }
      return all.join();
    });
    return JSON.stringify([
      deep(document.documentElement), values, elements, [...new FormData(document.getElementById('checkout'))], { ...localStorage }, { ...sessionStorage }, databases, cached, document.cookie,
      window.name, history.state, location.href, document.title, window.heard, performance.getEntries(), getSelection().toString(),
    ]);
  });
  const cookies = JSON.stringify(await context.cookies());
  const haystacks = { visible, cookies, console: seen.console.join('\n'), errors: seen.errors.join('\n'), requests: JSON.stringify(seen.requests), answers: answers.join('\n') };
  assert.match(visible, /svk_/, 'the key is there, so the search looks where things are');
  for (const [where, text] of Object.entries(haystacks)) {
    for (const spelling of spellings(canary)) assert.ok(!text.includes(spelling), `${where} holds ${spelling}`);
  }
  assert.equal(cookies, '[]');
});

test('the search above would find a card that is there', async (t) => {
  const { page } = await shop(t);
  await page.fill('#amount', '4000056655665556');
  const visible = await page.evaluate(() => [...document.querySelectorAll('input')].map((one) => one.value).join());
  assert.ok(spellings('4000056655665556').some((spelling) => visible.includes(spelling)));
});

test('the page cannot reach into the frame', async (t) => {
  const { page } = await shop(t, '/login.html');
  await type(page, 'password', 'unreachable text');
  const reached = await page.evaluate(() => {
    const frame = document.getElementById('password').shadowRoot.querySelector('iframe');
    const tried = (read) => { try { return String(read()); } catch (error) { return error.name; } };
    return [
      tried(() => frame.contentDocument),
      tried(() => frame.contentWindow.document),
      tried(() => frame.contentWindow.name),
      tried(() => frame.contentWindow.location.href),
      tried(() => frame.contentWindow.localStorage),
      tried(() => frame.contentWindow.eval('1')),
      tried(() => { frame.contentWindow.onmessage = () => {}; }),
      tried(() => window.frames.length),
    ];
  });
  assert.deepEqual(reached, ['null', ...Array(6).fill('SecurityError'), '0']);
});

test('nobody embeds a field where the app does not say so', async (t) => {
  const pages = {};
  const { origin } = await site(t, pages);
  const { versions } = await (await fetch(`${dev.public}/client/manifest.json`)).json();
  pages['/'] = `<!doctype html><title>elsewhere</title><script type="module" src="${dev.public}/client/${versions[0].version}/secure-input.js"></script>
    <secure-input id="password" app="${dev.app}" field="password" capture-token=""></secure-input>
    <iframe id="bare" src="${dev.public}/f/${dev.app}/"></iframe>`;
  const { page } = await blank(t);
  await page.goto(origin);
  await page.waitForFunction(() => document.getElementById('password').matches(':state(failed)'), null, { timeout: 40_000 });
  assert.equal(await page.frameLocator('#bare').locator('input').count(), 0);
  assert.ok(page.frames().every((frame) => !frame.url().startsWith(`${dev.public}/f/`)), page.frames().map((frame) => frame.url()).join());
});

test('the shop\u2019s own policy lets no other app\u2019s field onto its page', async (t) => {
  const { page } = await shop(t, '/login.html');
  const blocked = await page.evaluate(() => new Promise((done) => {
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective, blockedURI }) => done(`${effectiveDirective} ${new URL(blockedURI).pathname}`));
    document.body.append(Object.assign(document.createElement('iframe'), { src: `${new URL(document.getElementById('secure-input-script').src).origin}/f/evil/` }));
  }));
  assert.match(blocked, /^frame-src \//);
});

test('a second hello is not heard, nor is noise', async (t) => {
  const { page } = await shop(t, '/login.html');
  // A listener of ours behind the frame's own: what it has counted, the frame has heard and let be.
  await inside(page, 'password').evaluate(() => { window.came = 0; window.addEventListener('message', () => { window.came += 1; }); });
  await page.evaluate((vault) => {
    const frame = document.getElementById('password').shadowRoot.querySelector('iframe');
    window.heard = [];
    for (const message of [{ siv: 1, type: 'hello', field: 'password', settings: {} }, { type: 'seal', id: 1 }, null, 7, 'hello', { type: '__proto__' }]) {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => window.heard.push(data);
      frame.contentWindow.postMessage(message, vault, [port2]);
    }
    window.postMessage({ type: 'state', state: { empty: false, valid: true } }, location.origin);
  }, dev.public);
  const frame = page.frames().find((one) => one.url().startsWith(`${dev.public}/f/`));
  await frame.waitForFunction(() => window.came === 6);
  assert.deepEqual(await page.evaluate(() => document.getElementById('password').state), { empty: true, complete: false, valid: false, code: 'empty' });
  // The frame's answers come in their order: after this one of the first channel, one of another would be here.
  await type(page, 'password', 'still works');
  await inState(page, 'password', 'complete');
  assert.deepEqual(await page.evaluate(() => window.heard), []);
});

test('a frame that shows another document is given up', async (t) => {
  const { page } = await shop(t, '/login.html');
  await type(page, 'password', 'some password');
  const code = await page.evaluate(() => new Promise((done) => {
    document.addEventListener('secure-error', (event) => done(event.code));
    const frame = document.getElementById('password').shadowRoot.querySelector('iframe');
    frame.src = `${frame.src}?again`;
  }));
  assert.equal(code, 'frame_reloaded');
});

test('the frame itself can send nothing elsewhere', async (t) => {
  const { page } = await shop(t, '/login.html');
  const tried = await inside(page, 'password').evaluate(async (_, shopOrigin) => {
    const outcome = [];
    outcome.push(await fetch(`${shopOrigin}/api/seen`, { mode: 'no-cors' }).then(() => 'sent', () => 'refused'));
    outcome.push(await new Promise((done) => {
      const image = new Image();
      image.onload = () => done('sent');
      image.onerror = () => done('refused');
      image.src = `${shopOrigin}/icon.svg`;
    }));
    outcome.push(window.open('about:blank') ? 'opened' : 'refused');
    try { top.location.href = 'about:blank'; outcome.push('left'); } catch { outcome.push('refused'); }
    try { document.body.innerHTML = '<b>x</b>'; outcome.push('written'); } catch { outcome.push('refused'); }
    try { localStorage.setItem('a', 'b'); outcome.push('stored'); } catch { outcome.push('refused'); }
    return outcome;
  }, dev.demo);
  assert.deepEqual(tried.slice(0, 5), Array(5).fill('refused'));
});

test('a file that was altered on the way is not run', async (t) => {
  const { page } = await blank(t);
  const refused = page.waitForEvent('console', (message) => /integrity/.test(message.text()) && message.text().includes('secure-input.js'));
  await page.route('**/secure-input.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${await response.text()}\n// altered` });
  });
  await page.goto(`${dev.demo}/login.html`);
  await refused;
  assert.equal(await page.evaluate(() => customElements.get('secure-input') === undefined), true);
});

test('a frame whose script was altered on the way takes no input', async (t) => {
  const { page } = await blank(t);
  const refused = page.waitForEvent('console', (message) => /integrity/.test(message.text()) && message.text().includes('fields.js'));
  await page.route('**/frame/fields.js', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${await response.text()}\n// altered` });
  });
  await page.goto(`${dev.demo}/login.html`);
  await page.waitForFunction(() => document.getElementById('password')?.matches?.(':state(loading)'));
  await refused;
  assert.ok(await page.evaluate(() => !document.getElementById('password').matches(':state(empty)') || !document.getElementById('password').valid));
  assert.equal(await inside(page, 'password').isEnabled().catch(() => false), false);
});

test('it all works on a page with the strictest policy, isolated from other origins', async (t) => {
  const { page, seen } = await shop(t, '/login.html');
  const answer = await page.request.get(`${dev.demo}/login.html`);
  const policy = answer.headers()['content-security-policy'];
  for (const part of ["default-src 'none'", "style-src 'self'", "require-trusted-types-for 'script'", "trusted-types 'none'"]) assert.ok(policy.includes(part), part);
  assert.doesNotMatch(policy, /unsafe/);
  assert.equal(await page.evaluate(() => window.crossOriginIsolated), true);
  await type(page, 'password', 'under a strict policy');
  assert.deepEqual([...seen.errors, ...seen.console.filter((line) => /^error|Content Security|Trusted/.test(line))], []);
});

test('who comes back to the page finds the field empty', async (t) => {
  const { page } = await shop(t, '/login.html');
  await type(page, 'password', 'left behind');
  await page.goto(`${dev.demo}/`);
  await page.goBack();
  await ready(page);
  assert.equal(await inside(page, 'password').inputValue(), '');
  await page.reload();
  await ready(page);
  assert.equal(await inside(page, 'password').inputValue(), '');
});

test('what the frame asks carries no cookie and comes from the vault\u2019s own origin', async (t) => {
  const { page, seen } = await shop(t);
  await type(page, 'card', '4242424242424242');
  await page.evaluate(() => document.getElementById('card').capture());
  const asked = seen.requests.filter(({ url }) => url.includes('/v1/capture/'));
  assert.ok(asked.length >= 2);
  for (const { url, headers } of asked) {
    assert.ok(url.startsWith(dev.public));
    assert.equal(headers.cookie, undefined);
  }
  assert.ok(!asked.some(({ url }) => url.includes('svk_') || url.includes('siv_cap_')));
  await focused(page, 'card').catch(() => {});
});
