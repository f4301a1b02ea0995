// A real Chromium, and what a person does in it.
import { existsSync } from 'node:fs';
import { after } from 'node:test';
import { chromium } from 'playwright-core';

import { dev } from './vault.js';

const executablePath = process.env.SIV_CHROMIUM ?? '/usr/bin/chromium';
if (!existsSync(executablePath)) throw new Error(`${executablePath} is missing: apt-get install chromium (or name a Chromium in SIV_CHROMIUM)`);

const browser = await chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
after(() => browser.close());

export const CARD = '4242424242424242';
export const DECLINED = '4000000000000002';
export const PASSWORD = 'correct horse battery staple';

/** A new page in a context of its own; closed at the end of the test. `seen` keeps what it said and sent. */
export async function blank(t, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const seen = { console: [], errors: [], requests: [] };
  page.on('console', (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('request', (request) => seen.requests.push({ url: request.url(), method: request.method(), headers: request.headers(), body: request.postData() ?? '' }));
  return { page, seen, context };
}

/** A page of the demo shop, its fields ready. */
export async function shop(t, path = '/', options = {}) {
  const opened = await blank(t, options);
  await opened.page.goto(`${dev.demo}${path}`);
  await ready(opened.page);
  return opened;
}

/** Waits until every field can be typed in. */
export const ready = (page) => page.evaluate(async () => {
  await customElements.whenDefined('secure-input');
  await Promise.all([...document.querySelectorAll('secure-input')].map((one) => one.ready));
});

/** The input inside a field's frame, as a person meets it. */
export const inside = (page, id) => page.frameLocator(`#${id} iframe`).locator('input');

/** Types key by key, once the field really has the focus: it lives in another process. */
export async function type(page, id, text) {
  await inside(page, id).click();
  await focused(page, id);
  await page.keyboard.type(text);
}

export const focused = (page, id) => page.waitForFunction((one) => document.getElementById(one).matches(':state(focused)'), id);

/** Waits until a field is in a state. */
export const inState = (page, id, state) => page.waitForFunction(([one, name]) => document.getElementById(one).matches(`:state(${name})`), [id, state]);

export async function fillCard(page, number = CARD, expiry = '1239', cvc = '123') {
  await type(page, 'card', number);
  await type(page, 'expiry', expiry);
  await type(page, 'cvc', cvc);
}

/** How often a request was made. */
export const count = (seen, end) => seen.requests.filter(({ url, method }) => method === 'POST' && new URL(url).pathname === end).length;
