// What the frame says in words: what is wrong, and what to do. Never what was typed.

/** @type {Record<string, Record<string, string>>} */
const PROBLEMS = {
  'card-number': {
    empty: 'Enter the card number',
    too_short: 'The card number is too short. Check it against the card',
    too_long: 'The card number is too long. Check it against the card',
    characters: 'Enter the card number in digits',
    checksum: 'The card number is not right. Check it against the card',
  },
  'card-expiry': {
    empty: 'Enter the expiry date',
    too_short: 'Enter month and year, like 09 / 29',
    too_long: 'Enter month and year, like 09 / 29',
    characters: 'Enter month and year in digits, like 09 / 29',
    checksum: 'The expiry date is not right. Enter it as on the card, like 09 / 29',
    expired: 'The card has expired. Use another card',
  },
  'card-cvc': {
    empty: 'Enter the security code of the card',
    too_short: 'Enter the 3 digits on the back of the card, or the 4 on the front of an Amex',
    too_long: 'Enter the 3 digits on the back of the card, or the 4 on the front of an Amex',
    characters: 'Enter the security code in digits',
  },
  pin: {
    empty: 'Enter the PIN',
    too_short: 'The PIN has at least 4 digits',
    too_long: 'The PIN has at most 12 digits',
    characters: 'Enter the PIN in digits',
  },
  ssn: {
    empty: 'Enter the social security number',
    too_short: 'Enter all 9 digits',
    too_long: 'Enter 9 digits',
    characters: 'Enter the 9 digits of the number',
    checksum: 'The number is not right. Check it against the card',
  },
  password: { empty: 'Enter the password', too_short: 'The password has at least {min} characters', too_long: 'The password is too long' },
  text: { empty: 'Fill in this field', too_short: 'Enter at least {min} characters', too_long: 'Enter at most {max} characters', characters: 'Leave out control characters' },
};

/** @param {import('./fields.js').FieldSpec} spec @param {string} code */
export function problem(spec, code) {
  const text = PROBLEMS[spec.type]?.[code] ?? PROBLEMS.text[code] ?? 'This is not right. Check it';
  return text.replace('{min}', String(spec.min ?? 1)).replace('{max}', String(spec.max ?? ''));
}

/** Stands in a field whose text is in the vault. */
export const CAPTURED = 'Saved in the vault. Type to replace it';
