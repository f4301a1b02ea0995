// The auditor's console: signing in, and an entry whose caller wrote markup into it.
import { ask, dev } from './vault.js';

export const consoleOf = (path) => `${dev.private}${path}`;

/** What somebody would write who hopes that it is run. */
export const HOSTILE = '"><img src=x onerror="window.pwned=1"><script>window.pwned=2</script>';

/** Signs in as the auditor; the list is open then. */
export async function signIn(page) {
  await page.goto(consoleOf('/console/sign-in'));
  await page.fill('#credential', dev.credentials.auditor);
  await page.click('button');
  await page.waitForURL('**/console/log');
}

/** A card, captured and used by a flow in whose call stands markup; its id and the index of the use. */
export async function story(words = HOSTILE) {
  const { results } = await ask('app', 'POST', '/v1/values', { items: [{ field: 'card-number', value: '4242424242424242' }] });
  const body = { inputs: { card: results[0].secureValueKey }, reference: words, onBehalfOf: words };
  await ask(dev.credentials.flows['card-summary'], 'POST', '/v1/flows/card-summary/invoke', body);
  // A use is in the tree about a second after it was recorded.
  for (let tries = 0; tries < 150; tries += 1) {
    const { data } = await ask('auditor', 'GET', '/v1/log/entries?flow=card-summary&limit=1000');
    const use = data.findLast((entry) => entry.reference === words);
    if (use?.index !== undefined && use.index !== null && use.integrated !== false) return use;
    await new Promise((done) => setTimeout(done, 200));
  }
  throw new Error('the use does not come into the tree');
}
