// The auditor's pages in a browser: readable by everyone, and what stands in an entry is text whatever it looks like.
import assert from 'node:assert/strict';
import test from 'node:test';

import { violations } from './support/axe.js';
import { blank } from './support/browser.js';
import { HOSTILE, consoleOf, signIn, story } from './support/console.js';
import { ask, dev } from './support/vault.js';

/** One that axe leaves out unless it is asked for: a name that says what is seen. */
const RULES = { 'label-content-name-mismatch': { enabled: true } };

/** Every page a person can come to, by address. */
const pages = ({ valueId, index }) => [
  '/console/log', `/console/log?flow=card-summary&outcome=allowed&actor=${encodeURIComponent(HOSTILE)}`, '/console/log?flow=card-summary', '/console/log?from=yesterday',
  `/console/values/${valueId}`, `/console/entries/${index}`, '/console/entries/999999', '/console/export', '/console/log?before=nonsense', '/console/nothing',
];

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing on the console's pages (${colorScheme})`, async (t) => {
    const { page } = await blank(t, { colorScheme, reducedMotion: 'reduce' });
    await page.goto(`${dev.private}/console/sign-in`);
    assert.deepEqual(await violations(page, RULES), []);
    await page.fill('#credential', 'siv_aud_wrong');
    await page.click('button');
    await page.waitForSelector('[role=alert]');
    assert.deepEqual(await violations(page, RULES), []);
    const told = await story();
    await signIn(page);
    for (const path of pages(told)) {
      await page.goto(consoleOf(path));
      assert.deepEqual(await violations(page, RULES), [], path);
    }
  });
}

test('what a caller wrote into an entry is shown as it is and never run', async (t) => {
  const { page, seen, context } = await blank(t);
  const dialogs = [];
  context.on('dialog', (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
  const told = await story();
  await signIn(page);
  for (const path of pages(told)) {
    await page.goto(consoleOf(path));
    assert.equal(await page.locator('img, svg, iframe, script:not([src])').count(), 0, path);
  }
  await page.goto(consoleOf(`/console/entries/${told.index}`));
  const facts = await page.locator('.receipt').innerText();
  assert.ok(facts.includes(HOSTILE), facts);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(dialogs, []);
  assert.deepEqual([...seen.errors, ...seen.console.filter((line) => /Content Security|Trusted/.test(line))], []);
});

test('no page of the console is wider than a phone, and no column is cut off on a desk', async (t) => {
  const told = await story();
  const phone = await blank(t, { viewport: { width: 320, height: 640 } });
  await signIn(phone.page);
  for (const path of pages(told)) {
    await phone.page.goto(consoleOf(path));
    assert.equal(await phone.page.evaluate(() => document.documentElement.scrollWidth), 320, path);
  }
  const desk = await blank(t);
  await signIn(desk.page);
  // A flow's credential at another flow's door: a line with a reason.
  const { results } = await ask('app', 'POST', '/v1/values', { items: [{ field: 'card-number', value: '4242424242424242' }] });
  await assert.rejects(ask(dev.credentials.flows['reveal-card'], 'POST', '/v1/flows/card-summary/invoke', { inputs: { card: results[0].secureValueKey } }), /policy\.denied/);
  for (const path of ['/console/log', '/console/log?app=demo-shop', '/console/log?outcome=denied']) {
    await desk.page.goto(consoleOf(path));
    const { scrollWidth, clientWidth } = await desk.page.locator('.scroll').evaluate((one) => ({ scrollWidth: one.scrollWidth, clientWidth: one.clientWidth }));
    assert.ok(scrollWidth <= clientWidth, `${path}: ${scrollWidth} in ${clientWidth}`);
  }
});

test('the list goes by keyboard: search, move, open', async (t) => {
  await story();
  const { page } = await blank(t);
  await signIn(page);
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'valueId');
  await page.locator('h1').click();
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  const wanted = await page.locator('a.row').nth(1).getAttribute('href');
  await page.keyboard.press('Enter');
  await page.waitForURL(`**${wanted}`);
});
