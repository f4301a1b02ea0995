// axe, in the page and in every field's frame.
import AxeBuilder from '@axe-core/playwright';

/** What axe finds. It gives a frame one second to load it, which a busy machine exceeds: then it is asked again. */
export async function violations(page, rules = {}, tries = 3) {
  const { violations: found, incomplete, passes } = await new AxeBuilder({ page }).options({ rules }).analyze();
  const fields = await page.locator('secure-input:visible').count();
  const looked = new Set([...found, ...passes].flatMap(({ nodes }) => nodes).filter(({ target }) => target.length > 1).map(({ target }) => String(target[0])));
  const unseen = incomplete.some(({ id }) => id === 'frame-tested') || looked.size < fields;
  if (unseen && tries > 1) return violations(page, rules, tries - 1);
  return [...(unseen ? ['frame-tested: axe saw no inside of a frame'] : []), ...found.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.flat(9).join(' ')).join(', ')}`)];
}
