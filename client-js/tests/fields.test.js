// The rules of vault/src/domain/field.rs and luhn.rs, with the same examples.
import assert from 'node:assert/strict';
import test from 'node:test';

import { brand, grouped, luhn } from '../frame/cards.js';
import { TYPES, mayType, read } from '../frame/fields.js';
import { problem } from '../frame/texts.js';
import { allowed } from '../frame/style.js';

const NOW = 1_795_489_236_007; // November 2026
const told = (type, text, more = {}) => {
  const { code, text: spelled } = read({ type, ...more }, text, NOW);
  return code ?? spelled;
};

test('test numbers are told apart', () => {
  for (const [number, name] of [
    ['4242424242424242', 'visa'], ['5555555555554444', 'mastercard'], ['2223003122003222', 'mastercard'], ['378282246310005', 'amex'],
    ['6011111111111117', 'discover'], ['3056930009020004', 'diners'], ['3566002020360505', 'jcb'], ['6200000000000005', 'unionpay'],
  ]) {
    assert.ok(luhn(number), number);
    assert.equal(brand(number), name);
  }
  assert.ok(!luhn('4242424242424241') && !luhn('') && !luhn('4242x'));
  assert.deepEqual(['4', '9', '', '34', '5', '55', '2221', '2720', '2721'].map(brand), ['visa', 'unknown', 'unknown', 'amex', 'unknown', 'mastercard', 'mastercard', 'mastercard', 'unknown']);
});

test('each type knows its own', () => {
  for (const [type, text, expected] of [
    ['card-number', '4242 4242-4242 4242', '4242424242424242'],
    ['card-number', '4242424242424241', 'checksum'],
    ['card-number', '0000000000000000', 'checksum'],
    ['card-number', '4242', 'too_short'],
    ['card-number', '4242x', 'characters'],
    ['card-number', '42424242424242424242', 'too_long'],
    ['card-expiry', '11 / 26', '11/26'],
    ['card-expiry', '12/2030', '12/30'],
    ['card-expiry', '1230', '12/30'],
    ['card-expiry', '10/26', 'expired'],
    ['card-expiry', '13/30', 'checksum'],
    ['card-expiry', '12/47', 'checksum'],
    ['card-expiry', '12', 'too_short'],
    ['card-expiry', '12/203', 'too_long'],
    ['card-expiry', '1/2/30', 'characters'],
    ['card-cvc', '123', '123'],
    ['card-cvc', '12', 'too_short'],
    ['card-cvc', '12345', 'too_long'],
    ['card-cvc', '12 ', 'characters'],
    ['pin', '0000', '0000'],
    ['pin', '123', 'too_short'],
    ['pin', '1234567890123', 'too_long'],
    ['pin', '12 34', 'characters'],
    ['ssn', '078-05-1120', '078051120'],
    ['ssn', '666051120', 'checksum'],
    ['ssn', '900051120', 'checksum'],
    ['ssn', '078001120', 'checksum'],
    ['ssn', '078050000', 'checksum'],
    ['password', ' p\u00e4ss ', ' p\u00e4ss '],
    ['text', 'a\r\nb', 'characters'],
    ['text', '', 'empty'],
  ]) {
    assert.equal(told(type, text), expected, `${type} ${JSON.stringify(text)}`);
  }
});

test('bounds come from the field, and are counted in characters', () => {
  assert.equal(told('password', 'seven77', { min: 8 }), 'too_short');
  assert.equal(told('password', '\u{1f600}'.repeat(8), { min: 8, max: 8 }), '\u{1f600}'.repeat(8));
  assert.equal(told('text', 'abc', { max: 2 }), 'too_long');
  assert.equal(told('text', 'abc', { min: null, max: null }), 'abc');
});

test('a card is good through the last day of its month, wherever that ends last', () => {
  const late = Date.UTC(2026, 11, 1, 11, 59);
  assert.equal(read({ type: 'card-expiry' }, '11/26', late).code, null);
  assert.equal(read({ type: 'card-expiry' }, '11/26', late + 60_000).code, 'expired');
});

test('what is typed is grouped as it stands on the card', () => {
  const mask = (type, text) => TYPES[type].mask(text);
  assert.equal(grouped('4242424242424242'), '4242 4242 4242 4242');
  assert.equal(grouped('378282246310005'), '3782 822463 10005');
  assert.equal(grouped('6200000000000000003'), '6200 0000 0000 0000 003');
  assert.equal(mask('card-number', '4242-4242 42'), '4242 4242 42');
  for (const [text, shown] of [['1', '1'], ['7', '07'], ['12', '12'], ['1/', '01 /'], ['123', '12 / 3'], ['1230', '12 / 30'], ['12 / 2030', '12 / 2030'], ['12 /', '12 /'], ['x', 'x']]) {
    assert.equal(mask('card-expiry', text), shown, text);
  }
  assert.equal(mask('ssn', '078051120'), '078-05-1120');
});

test('a mask never changes what a text means', () => {
  for (const [type, text] of [['card-number', '4242424242424242'], ['card-expiry', '12/2030'], ['card-expiry', '1230'], ['ssn', '078051120']]) {
    assert.equal(told(type, TYPES[type].mask(text)), told(type, text));
  }
});

test('typing adds what the type can hold; letters and surplus digits do nothing', () => {
  assert.ok(mayType('card-number', '4242', '4') && !mayType('card-number', '4242', 'x'));
  assert.ok(!mayType('card-cvc', '1234', '5') && mayType('card-cvc', '123', '4'));
  assert.ok(mayType('card-expiry', '12', '/') && !mayType('card-expiry', '12 / 2030', '1'));
  assert.ok(mayType('pin', '12345678901', '2') && !mayType('pin', '123456789012', '3') && !mayType('pin', '1', 'x'));
  assert.ok(mayType('password', 'anything', '\u{1f600}'));
});

test('a password and a PIN are not shown while they are typed', () => {
  assert.deepEqual(Object.keys(TYPES).filter((type) => TYPES[type].hidden), ['password', 'pin']);
});

test('every code has words that say what to do and repeat nothing', () => {
  for (const type of Object.keys(TYPES)) {
    for (const code of ['empty', 'too_short', 'too_long', 'characters', 'checksum', 'expired']) {
      const words = problem({ type, min: 8, max: 9 }, code);
      assert.ok(words.length > 8 && !words.includes('{'), `${type} ${code}`);
    }
  }
});

test('a style that could load, refer or break out is refused', () => {
  const supports = () => true;
  for (const value of ['url(https://x)', 'URL(x)', 'var(--x)', 'attr(title)', 'env(x)', 'image-set("x")', 'red;}', '@import', '\\75rl(x)', 'a{b', '/**/', 7, null, 'x'.repeat(301)]) {
    assert.ok(!allowed('color', value, supports), String(value));
  }
  assert.ok(allowed('font-family', '"Helvetica Neue", system-ui, sans-serif', supports));
  assert.ok(!allowed('color', 'red', () => false));
});
