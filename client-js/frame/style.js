// Text styles the page may hand over, so that the field looks like its neighbours. Everything else is refused.

import { STYLES } from '../shared/protocol.js';

/** What could load something, refer to something, or end the declaration. */
const REFUSED = /url\(|var\(|attr\(|env\(|image|element\(|[@\\;{}<>]|\/\*/i;

/** True if the declaration may stand on the field. @param {string} property @param {unknown} value @param {(property: string, value: string) => boolean} supports */
export function allowed(property, value, supports) {
  return typeof value === 'string' && value.length <= 300 && !REFUSED.test(value) && supports(property, value);
}

/** @param {HTMLElement} input @param {unknown} styles */
export function dress(input, styles) {
  if (typeof styles !== 'object' || styles === null) return;
  const given = /** @type {Record<string, unknown>} */ (styles);
  const supports = (/** @type {string} */ property, /** @type {string} */ value) => CSS.supports(property, value);
  for (const property of STYLES) {
    // A see-through ground lies over the page's own one: painted twice it would look different.
    if (property === 'background-color' && !/^rgb\(/.test(String(given[property]))) input.style.removeProperty(property);
    else if (allowed(property, given[property], supports)) input.style.setProperty(property, String(given[property]));
  }
  // The brand stands beside the input: it takes its colour and its ground, so that they contrast as they do in the field.
  if (input.parentElement) {
    input.parentElement.style.color = input.style.color;
    input.parentElement.style.backgroundColor = input.style.backgroundColor;
  }
  if (allowed('color', given['placeholder-color'], supports)) {
    input.style.setProperty('--placeholder-color', String(given['placeholder-color']));
  }
}
