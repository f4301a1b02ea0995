// Card numbers: the Luhn check, the brand by the leading digits, the groups people read. Mirrors vault/src/domain/luhn.rs.

/** True if the digits pass the Luhn check (ISO/IEC 7812-1 annex B). @param {string} digits */
export function luhn(digits) {
  let sum = 0;
  for (let place = 0; place < digits.length; place += 1) {
    const digit = Number(digits[digits.length - 1 - place]) * (place % 2 ? 2 : 1);
    sum += digit > 9 ? digit - 9 : digit;
  }
  return /^[0-9]+$/.test(digits) && sum % 10 === 0;
}

/** @param {string} digits */
export function brand(digits) {
  const lead = (/** @type {number} */ count) => (digits.length >= count ? Number(digits.slice(0, count)) : 0);
  const [two, three, four] = [lead(2), lead(3), lead(4)];
  if (two === 34 || two === 37) return 'amex';
  if ((three >= 300 && three <= 305) || [36, 38, 39].includes(two)) return 'diners';
  if (four >= 3528 && four <= 3589) return 'jcb';
  if (four === 6011 || (three >= 644 && three <= 649) || two === 65) return 'discover';
  if (two === 62) return 'unionpay';
  if ((two >= 51 && two <= 55) || (four >= 2221 && four <= 2720)) return 'mastercard';
  if ([50, 56, 57, 58, 63, 67, 69].includes(two)) return 'maestro';
  return lead(1) === 4 ? 'visa' : 'unknown';
}

/** Digits in the groups that stand on the card. @param {string} digits */
export function grouped(digits) {
  const kind = brand(digits);
  const sizes = kind === 'amex' ? [4, 6, 5] : kind === 'diners' && digits.length <= 14 ? [4, 6, 4] : [4, 4, 4, 4];
  const groups = [];
  let at = 0;
  for (const size of sizes) {
    groups.push(digits.slice(at, at + size));
    at += size;
  }
  return [...groups, digits.slice(at)].filter(Boolean).join(' ');
}

/** Names as people know them. @type {Record<string, string>} */
export const BRANDS = {
  amex: 'Amex',
  diners: 'Diners',
  discover: 'Discover',
  jcb: 'JCB',
  maestro: 'Maestro',
  mastercard: 'Mastercard',
  unionpay: 'UnionPay',
  visa: 'Visa',
};
