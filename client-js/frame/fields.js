// When a text is one of its field, and how it looks while it is typed. Mirrors vault/src/domain/field.rs; the vault checks again.

import { grouped, luhn } from './cards.js';

/** @typedef {{type: string, min?: number|null, max?: number|null, showBrand?: boolean}} FieldSpec */
/** @typedef {{code: string|null, text: string}} Reading `text` in the field's one spelling; empty where `code` is not null */

/** Bounds in characters, kind of keyboard, what a browser may fill in. @type {Record<string, {min: number, max: number, inputmode: string, autocomplete: string, hidden?: boolean, mask?: (text: string) => string}>} */
export const TYPES = {
  text: { min: 1, max: 1024, inputmode: 'text', autocomplete: 'off' },
  password: { min: 1, max: 256, inputmode: 'text', autocomplete: 'current-password', hidden: true },
  'card-number': { min: 12, max: 19, inputmode: 'numeric', autocomplete: 'cc-number', mask: (text) => grouped(plain(text)) },
  'card-expiry': { min: 5, max: 5, inputmode: 'numeric', autocomplete: 'cc-exp', mask: expiryMask },
  'card-cvc': { min: 3, max: 4, inputmode: 'numeric', autocomplete: 'cc-csc' },
  pin: { min: 4, max: 12, inputmode: 'numeric', autocomplete: 'off', hidden: true },
  ssn: { min: 9, max: 9, inputmode: 'numeric', autocomplete: 'off', mask: ssnMask },
};

/** The longest a text of digits may grow by typing. @type {Record<string, number>} */
const MOST_DIGITS = { 'card-number': 19, 'card-expiry': 6, 'card-cvc': 4, pin: 12, ssn: 9 };

/** Without the spaces and dashes that stand between groups. @param {string} text */
const plain = (text) => text.replace(/[ -]/g, '');
const isDigits = (/** @type {string} */ text) => /^[0-9]*$/.test(text);

/** True if a key press may add this to the text: digits where only digits can be, and not more than there can be. @param {string} type @param {string} before @param {string} added */
export function mayType(type, before, added) {
  const most = MOST_DIGITS[type];
  if (!most) return true;
  const allowed = type === 'card-expiry' ? /^[0-9/ ]*$/ : /^[0-9 -]*$/;
  const count = (/** @type {string} */ text) => text.replace(/[^0-9]/g, '').length;
  return allowed.test(added) && count(before) + count(added) <= most;
}

/** `12` → `12 / `, `1230` → `12 / 30`, `7` → `07 / `. @param {string} text */
function expiryMask(text) {
  const slash = text.includes('/');
  let digits = text.replace(/[ /]/g, '');
  if (!isDigits(digits) || text.split('/').length > 2) return text;
  if (/^[2-9]$/.test(digits) || (slash && /^1$/.test(digits))) digits = `0${digits}`;
  return digits.length > 2 || (digits.length === 2 && slash) ? `${digits.slice(0, 2)} / ${digits.slice(2)}`.trimEnd() : digits;
}

/** @param {string} text */
function ssnMask(text) {
  const digits = plain(text);
  if (!isDigits(digits)) return text;
  return [digits.slice(0, 3), digits.slice(3, 5), digits.slice(5)].filter(Boolean).join('-');
}

/**
 * Reads a text as one of its field.
 * @param {FieldSpec} spec @param {string} text @param {number} [now] milliseconds
 * @returns {Reading}
 */
export function read(spec, text, now = Date.now()) {
  const rules = TYPES[spec.type] ?? TYPES.text;
  const no = (/** @type {string} */ code) => ({ code, text: '' });
  if (text === '') return no('empty');
  const free = !(spec.type in MOST_DIGITS);
  let spelled = text;
  if (spec.type === 'card-number' || spec.type === 'ssn') spelled = plain(text);
  if (spec.type === 'card-expiry') {
    const expiry = spellExpiry(text.replaceAll(' ', ''));
    if (expiry.code) return expiry;
    spelled = expiry.text;
  } else if (!free && !isDigits(spelled)) return no('characters');
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f]/.test(spelled)) return no('characters');
  const length = [...spelled].length;
  if (length < (spec.min ?? rules.min)) return no('too_short');
  if (length > (spec.max ?? rules.max) || new TextEncoder().encode(spelled).length > 16380) return no('too_long');
  if (spec.type === 'card-number' && (!luhn(spelled) || new Set(spelled).size === 1)) return no('checksum');
  if (spec.type === 'ssn' && !/^(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}$/.test(spelled)) return no('checksum');
  const past = spec.type === 'card-expiry' ? outOfTime(spelled, now) : null;
  return past ? no(past) : { code: null, text: spelled };
}

/** `MM/YY` from `MM/YY`, `MMYY` or `MM/YYYY`. @param {string} text @returns {Reading} */
function spellExpiry(text) {
  const digits = text.replaceAll('/', '');
  const no = (/** @type {string} */ code) => ({ code, text: '' });
  if (!isDigits(digits) || text.split('/').length > 2) return no('characters');
  if (digits.length < 4) return no('too_short');
  if (digits.length !== 4 && digits.length !== 6) return no('too_long');
  const month = Number(digits.slice(0, 2));
  if (month < 1 || month > 12) return no('checksum');
  return { code: null, text: `${digits.slice(0, 2)}/${digits.slice(-2)}` };
}

/** A card is good through the last day of its month in the last time zone; 20 years ahead is a typing error. @param {string} spelled @param {number} now */
function outOfTime(spelled, now) {
  const today = new Date(now - 12 * 3600 * 1000);
  const ahead = (2000 + Number(spelled.slice(3)) - today.getUTCFullYear()) * 12 + Number(spelled.slice(0, 2)) - 1 - today.getUTCMonth();
  return ahead < 0 ? 'expired' : ahead > 240 ? 'checksum' : null;
}
