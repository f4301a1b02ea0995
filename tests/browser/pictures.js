// Pictures of the demo shop in every state and of the console, for docs/ and for eyes: SIV_DEV_JSON=… npm run pictures -- FOLDER
import { mkdirSync } from 'node:fs';

import { DECLINED, PASSWORD, blank, fillCard, focused, shop, type } from './support/browser.js';
import { consoleOf, signIn, story } from './support/console.js';
import { dev } from './support/vault.js';

const folder = process.argv[2] ?? 'pictures';
mkdirSync(folder, { recursive: true });

const LOOKS = {
  desktop: {},
  dark: { colorScheme: 'dark' },
  phone: { viewport: { width: 320, height: 640 } },
  zoomed: { viewport: { width: 320, height: 256 } },
  forced: { forcedColors: 'active' },
};

for (const [look, options] of Object.entries(LOOKS)) {
  const open = [];
  const t = { after: (close) => open.push(close) };
  const { width, height } = { width: 1280, height: 900, ...options.viewport };
  // A full-page picture is taken before the frames are painted at their new place: the window grows first.
  const picture = async (page, state) => {
    // The lists are read from the shop after the answer.
    await page.waitForTimeout(1500);
    await page.setViewportSize({ width, height: Math.max(height, await page.evaluate(() => document.documentElement.scrollHeight)) });
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/${look}-${state}.png` });
    await page.setViewportSize({ width, height });
    await page.waitForTimeout(200);
  };

  const { page } = await shop(t, '/', options);
  await picture(page, 'rest');
  await page.click('form .action');
  await focused(page, 'card');
  await picture(page, 'errors');
  await fillCard(page, DECLINED);
  await picture(page, 'filled');
  await page.click('form .action');
  await page.waitForFunction(() => document.getElementById('summary').innerText.includes('declined'));
  await picture(page, 'declined');
  await fillCard(page);
  await page.click('form .action');
  await page.waitForSelector('#result:not([hidden])');
  await page.waitForSelector('#saw-vault li');
  await picture(page, 'approved');

  const login = (await shop(t, '/login.html', options)).page;
  await type(login, 'password', 'not this one');
  await login.click('form .action');
  await login.waitForSelector('#password-problem:not([hidden])');
  await picture(login, 'login-refused');
  await type(login, 'password', PASSWORD);
  await login.click('form .action');
  await login.waitForSelector('#result:not([hidden])');
  await picture(login, 'login-welcome');

  const auditor = (await blank(t, options)).page;
  await auditor.goto(consoleOf('/console/sign-in'));
  await picture(auditor, 'console-sign-in');
  await auditor.fill('#credential', 'siv_aud_wrong');
  await auditor.click('button');
  await auditor.waitForSelector('[role=alert]');
  await picture(auditor, 'console-refused');
  await signIn(auditor);
  const used = await story('ticket-1042');
  for (const [state, path] of [
    ['list', `/console/log?app=${dev.app}`], ['history', `/console/values/${used.valueId}`], ['entry', `/console/entries/${used.index}`], ['not-understood', '/console/log?from=yesterday'],
    ['export', '/console/export'], ['unknown', '/console/nothing'],
  ]) {
    await auditor.goto(consoleOf(path));
    await picture(auditor, `console-${state}`);
  }
  for (const close of open) await close();
}
process.exit(0);
