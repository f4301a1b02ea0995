// The demo shop as a person uses it.
import assert from 'node:assert/strict';
import test from 'node:test';

import { DECLINED, PASSWORD, count, fillCard, focused, inState, inside, shop, type } from './support/browser.js';

const text = (page, selector) => page.locator(selector).innerText();

test('a card is charged, and each side sees what it may', async (t) => {
  const { page, seen } = await shop(t);
  await fillCard(page);
  assert.match(await text(page, '#saw-page'), /Card number\s+complete, valid, Visa/);
  await page.click('form .action');
  await page.waitForSelector('#result:not([hidden])');
  assert.match(await text(page, '#result'), /\$42\.00 from the card that ends in 4242[\s\S]*ch_/);
  await page.waitForSelector('#saw-vault li');
  assert.match(await text(page, '#saw-page'), /svk_/);
  assert.match(await text(page, '#saw-shop'), /card\s+svk_[\s\S]*cvc\s+svk_[\s\S]*amount\s+4200/);
  assert.match(await text(page, '#saw-vault'), /relay\.outcome[\s\S]*relay\.intent/);
  assert.equal(count(seen, '/v1/capture/values'), 1, 'three fields, one request');
  assert.deepEqual(seen.errors, []);
});

test('a declined card is said, and another one is asked for', async (t) => {
  const { page } = await shop(t);
  await fillCard(page, DECLINED);
  await page.click('form .action');
  await page.waitForSelector('#summary:not([hidden])');
  assert.match(await text(page, '#summary'), /declined the card that ends in 0002/);
  await focused(page, 'card');
  assert.equal(await inside(page, 'card').inputValue(), '');
  await fillCard(page);
  await page.click('form .action');
  await page.waitForSelector('#result:not([hidden])');
});

test('problems stand at their fields and above the form, and the first one has the focus', async (t) => {
  const { page, seen } = await shop(t);
  await page.fill('#amount', '42');
  await type(page, 'card', '4242424242424241');
  await type(page, 'cvc', '12');
  await page.click('form .action');
  // On a busy machine the field's own problem may move the button between press and release: a person presses again.
  const told = page.waitForSelector('#summary:not([hidden])', { timeout: 5000 });
  await told.catch(() => page.click('form .action'));
  await page.waitForSelector('#summary:not([hidden])');
  assert.match(await text(page, '#card-problem'), /Check it against the card/);
  assert.match(await text(page, '#expiry-problem'), /Enter the expiry date/);
  assert.match(await text(page, '#cvc-problem'), /Enter the 3 digits/);
  assert.equal(await page.locator('#summary li').count(), 3);
  await focused(page, 'card');
  assert.equal(await inside(page, 'card').getAttribute('aria-invalid'), 'true');
  assert.equal(count(seen, '/v1/capture/values') + count(seen, '/api/charge'), 0);
  await page.click('#summary a >> nth=1');
  await focused(page, 'expiry');
  await page.keyboard.type('1239');
  await page.waitForSelector('#expiry-problem', { state: 'hidden' });
  await page.fill('#amount', '0');
  await page.click('form .action');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'amount');
  assert.match(await text(page, '#amount-problem'), /Enter an amount/);
});

test('an error comes when the field is left, not while it is typed in', async (t) => {
  const { page } = await shop(t);
  await type(page, 'card', '4242');
  assert.ok(await page.locator('#card-problem').isHidden());
  await page.click('#amount');
  await page.waitForSelector('#card-problem:not([hidden])');
  await type(page, 'card', '424242424242');
  await page.waitForSelector('#card-problem', { state: 'hidden' });
});

test('the right password is welcome, another is not, and the shop sees neither', async (t) => {
  const { page, seen } = await shop(t, '/login.html');
  await type(page, 'password', 'wrong password');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#password-problem:not([hidden])');
  assert.match(await text(page, '#password-problem'), /wrong/);
  await type(page, 'password', PASSWORD);
  await page.click('form .action');
  await page.waitForSelector('#result:not([hidden])');
  assert.match(await text(page, '#result'), /Welcome, mara/);
  assert.match(await text(page, '#saw-shop'), /password\s+svk_/);
  assert.ok(seen.requests.every(({ body }) => !body.includes('correct horse')));
});

test('the whole checkout goes by keyboard alone', async (t) => {
  const { page } = await shop(t);
  await page.focus('#amount');
  for (const [id, keys] of [['card', '4242424242424242'], ['expiry', '1239'], ['cvc', '123']]) {
    await page.keyboard.press('Tab');
    await focused(page, id);
    await page.keyboard.type(keys);
    await inState(page, id, 'complete');
  }
  await page.keyboard.press('Shift+Tab');
  await focused(page, 'expiry');
  await page.keyboard.press('Tab');
  await focused(page, 'cvc');
  await page.keyboard.press('Tab');
  await page.waitForFunction(() => document.activeElement.matches('.action'));
  await page.keyboard.press('Shift+Tab');
  await focused(page, 'cvc');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#result:not([hidden])');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'result-title');
});

test('a click on the label is a click into the field', async (t) => {
  const { page } = await shop(t);
  await page.click('label[for=cvc]');
  await focused(page, 'cvc');
  await page.keyboard.type('123');
  assert.equal(await inside(page, 'cvc').inputValue(), '123');
});

test('whoever clicks twice pays once', async (t) => {
  const { page, seen } = await shop(t);
  await fillCard(page);
  await page.evaluate(() => { for (let clicks = 0; clicks < 3; clicks += 1) document.querySelector('.action').click(); });
  await page.waitForSelector('#result:not([hidden])');
  assert.equal(count(seen, '/v1/capture/values'), 1);
  assert.equal(count(seen, '/api/charge'), 1);
});

test('the button says what happens and keeps its size', async (t) => {
  const { page } = await shop(t);
  await fillCard(page);
  const before = await page.locator('form .action').boundingBox();
  await page.route('**/api/charge', async (route) => { await new Promise((done) => setTimeout(done, 400)); await route.continue(); });
  await page.click('form .action');
  await page.waitForSelector('.action[aria-busy=true]');
  assert.equal((await text(page, 'form .action')).trim(), 'Paying…');
  const during = await page.locator('form .action').boundingBox();
  assert.deepEqual([during.width, during.height], [before.width, before.height]);
  await page.waitForSelector('#result:not([hidden])');
});

test('the secure field cannot be told from its neighbour', async (t) => {
  for (const colorScheme of ['light', 'dark']) {
    const { page } = await shop(t, '/', { colorScheme });
    const [plain, secure] = await Promise.all([page.locator('#amount').boundingBox(), page.locator('#card').boundingBox()]);
    assert.deepEqual([secure.height, secure.width, secure.x], [plain.height, plain.width, plain.x]);
    const look = (input) => { const { fontFamily, fontSize, color, paddingLeft, lineHeight } = getComputedStyle(input); return { fontFamily, fontSize, color, paddingLeft, lineHeight }; };
    assert.deepEqual(await inside(page, 'card').evaluate(look), await page.locator('#amount').evaluate(look));
    const brand = await inside(page, 'card').evaluate((input) => [document.getElementById('brand'), input].map((one) => getComputedStyle(one).color));
    assert.equal(brand[0], brand[1]);
  }
});

test('nothing is cut off on a narrow phone', async (t) => {
  for (const path of ['/', '/login.html']) {
    const { page } = await shop(t, path, { viewport: { width: 320, height: 640 } });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  }
});
