// Everyone can use it: axe in the page and in the frames, names as they are read aloud.
import assert from 'node:assert/strict';
import test from 'node:test';

import { fillCard, focused, inside, shop } from './support/browser.js';
import { violations } from './support/axe.js';

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing in page and frames, at rest and with errors (${colorScheme})`, async (t) => {
    const { page } = await shop(t, '/', { colorScheme, reducedMotion: 'reduce' });
    assert.deepEqual(await violations(page), []);
    await page.click('form .action');
    await page.waitForSelector('#summary:not([hidden])');
    assert.deepEqual(await violations(page), []);
    await fillCard(page);
    assert.deepEqual(await violations(page), []);
    await page.click('form .action');
    await page.waitForSelector('#result:not([hidden])');
    await page.waitForSelector('#saw-vault li');
    assert.deepEqual(await violations(page), []);
  });

  test(`axe finds nothing on the login page (${colorScheme})`, async (t) => {
    const { page } = await shop(t, '/login.html', { colorScheme });
    assert.deepEqual(await violations(page), []);
  });
}

test('axe would find a fault inside the frame', async (t) => {
  const { page } = await shop(t, '/login.html');
  await inside(page, 'password').evaluate((input) => {
    document.getElementById('label').remove();
    for (const name of ['aria-labelledby', 'aria-describedby', 'placeholder', 'title']) input.removeAttribute(name);
  });
  const found = await violations(page);
  assert.ok(found.some((one) => one.startsWith('label')), `the planted fault, not ${found}`);
});

test('a field is read as its label, with its hint and its problem', async (t) => {
  const { page } = await shop(t);
  await page.click('form .action');
  await focused(page, 'card');
  const frame = page.frameLocator('#card iframe');
  assert.equal(await frame.getByRole('textbox', { name: 'Card number' }).count(), 1);
  assert.equal(await frame.locator('#problem').innerText(), 'Enter the card number');
  assert.deepEqual(await inside(page, 'card').evaluate((input) => [input.ariaRequired, input.ariaInvalid, input.inputMode, input.autocomplete]), ['true', 'true', 'numeric', 'cc-number']);
  assert.equal(await page.locator('#card iframe').getAttribute('title'), 'Secure field');
});

test('it stays usable in forced colours and at four times the size', async (t) => {
  const { page } = await shop(t, '/', { forcedColors: 'active', viewport: { width: 320, height: 256 } });
  await fillCard(page);
  assert.equal(await inside(page, 'card').inputValue(), '4242 4242 4242 4242');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  assert.deepEqual(await violations(page), []);
});
