// HPKE against RFC 9180 appendix A.3.1, and the bytes of a sealed capture opened by an independent reading of the RFC.
import assert from 'node:assert/strict';
import { createDecipheriv, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { concat, seal } from '../frame/hpke.js';
import { fromBase64Url, lp, pad, requestKey, sealCapture, sessionOf, toBase64Url } from '../frame/seal.js';

const hex = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const EC = { name: 'ECDH', namedCurve: 'P-256' };

async function pairOf(privateHex, publicHex) {
  const point = hex(publicHex);
  const jwk = { kty: 'EC', crv: 'P-256', x: toBase64Url(point.slice(1, 33)), y: toBase64Url(point.slice(33)), d: toBase64Url(hex(privateHex)), ext: true };
  return {
    privateKey: await crypto.subtle.importKey('jwk', jwk, EC, true, ['deriveBits']),
    publicKey: await crypto.subtle.importKey('raw', point, EC, true, []),
  };
}

test('the first message of RFC 9180 A.3.1 comes out byte for byte', async () => {
  const ephemeral = await pairOf(
    '4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb',
    '04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4',
  );
  const receiver = hex('04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0');
  const { enc, ciphertext } = await seal(
    receiver,
    hex('4f6465206f6e2061204772656369616e2055726e'),
    hex('4265617574792069732074727574682c20747275746820626561757479'),
    { ephemeral, aad: hex('436f756e742d30'), aead: 'AES-128-GCM' },
  );
  assert.equal(Buffer.from(enc).toString('hex').slice(0, 18), '04a92719c6195d5085');
  const expected = '5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434';
  assert.equal(Buffer.from(ciphertext).toString('hex'), expected);
});

/** Opens with Node's own primitives: nothing of the code under test. */
async function open(sealed, privateKey, publicKey, info) {
  const hmac = (key, ...parts) => createHmac('sha256', key).update(Buffer.concat(parts.map((part) => Buffer.from(part)))).digest();
  const [version, keyId, enc, body] = [sealed[0], sealed.subarray(1, 17), sealed.subarray(17, 82), sealed.subarray(82)];
  const kem = Buffer.concat([Buffer.from('KEM'), Buffer.from([0, 0x10])]);
  const suite = Buffer.concat([Buffer.from('HPKE'), Buffer.from([0, 0x10, 0, 1, 0, 2])]);
  const extract = (id, salt, label, ikm) => hmac(salt, 'HPKE-v1', id, label, ikm);
  const expand = (id, prk, label, extra, length) => hmac(prk, [length >> 8, length & 255], 'HPKE-v1', id, label, extra, [1]).subarray(0, length);
  const point = await crypto.subtle.importKey('raw', enc, EC, false, []);
  const dh = Buffer.from(await crypto.subtle.deriveBits({ name: 'ECDH', public: point }, privateKey, 256));
  const shared = expand(kem, extract(kem, Buffer.alloc(32), 'eae_prk', dh), 'shared_secret', Buffer.concat([enc, publicKey]), 32);
  const context = Buffer.concat([Buffer.from([0]), extract(suite, Buffer.alloc(32), 'psk_id_hash', ''), extract(suite, Buffer.alloc(32), 'info_hash', info)]);
  const secret = extract(suite, shared, 'secret', '');
  const cipher = createDecipheriv('aes-256-gcm', expand(suite, secret, 'key', context, 32), expand(suite, secret, 'base_nonce', context, 12));
  cipher.setAuthTag(body.subarray(-16));
  return { version, keyId, padded: Buffer.concat([cipher.update(body.subarray(0, -16)), cipher.final()]) };
}

test('a sealed capture opens for its key, app, session and field, and for no other', async () => {
  const pair = await crypto.subtle.generateKey(EC, true, ['deriveBits']);
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const [keyId, session] = [crypto.getRandomValues(new Uint8Array(16)), crypto.getRandomValues(new Uint8Array(16))];
  const key = { keyId: toBase64Url(keyId), publicKey: toBase64Url(publicKey) };
  const place = { app: 'demo-shop', session, field: 'password' };
  const sealed = Buffer.from(fromBase64Url(await sealCapture('p\u00e4ss \u{1f600}', key, place)));
  const opened = await open(sealed, pair.privateKey, publicKey, lp('siv/v1/capture', keyId, 'demo-shop', session, 'password'));
  assert.equal(opened.version, 1);
  assert.deepEqual([...opened.keyId], [...keyId]);
  assert.equal(opened.padded.subarray(4, 4 + opened.padded.readUInt32BE(0)).toString(), 'p\u00e4ss \u{1f600}');
  for (const info of [
    lp('siv/v1/capture', keyId, 'demo-shop', session, 'card-number'),
    lp('siv/v1/capture', keyId, 'other', session, 'password'),
    lp('siv/v1/capture', keyId, 'demo-shop', keyId, 'password'),
  ]) {
    await assert.rejects(open(sealed, pair.privateKey, publicKey, info));
  }
});

test('the vault and the frame read the same vector', async () => {
  const vector = JSON.parse(readFileSync(new URL('../../tests/vectors/capture.json', import.meta.url), 'utf8'));
  const info = lp('siv/v1/capture', hex(vector.keyId), vector.app, hex(vector.session.replaceAll('-', '')), vector.field);
  assert.equal(Buffer.from(info).toString('hex'), vector.info);
  const { privateKey } = await pairOf(vector.privateKey, vector.publicKey);
  const opened = await open(Buffer.from(hex(vector.sealed)), privateKey, hex(vector.publicKey), info);
  assert.equal(opened.version, 1);
  assert.deepEqual([...opened.padded], [...pad(vector.plaintext)]);
});

test('two seals of one text differ, and the length shows the bucket only', async () => {
  const pair = await crypto.subtle.generateKey(EC, true, ['deriveBits']);
  const publicKey = toBase64Url(new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)));
  const key = { keyId: toBase64Url(new Uint8Array(16)), publicKey };
  const place = { app: 'a', session: new Uint8Array(16), field: 'f' };
  const [one, two, three] = [await sealCapture('1', key, place), await sealCapture('1', key, place), await sealCapture('x'.repeat(60), key, place)];
  assert.notEqual(one, two);
  assert.equal(one.length, three.length);
  assert.equal(fromBase64Url(one).length, 1 + 16 + 65 + 64 + 16);
});

test('a text is padded to the smallest bucket it fits', () => {
  for (const [length, bucket] of [[0, 64], [60, 64], [61, 256], [252, 256], [253, 1024], [1020, 1024], [4092, 4096], [16380, 16384]]) {
    const padded = pad('x'.repeat(length));
    assert.equal(padded.length, bucket);
    assert.equal(Buffer.from(padded).readUInt32BE(0), length);
    assert.ok(padded.slice(4 + length).every((byte) => byte === 0));
  }
  assert.throws(() => pad('x'.repeat(16381)), RangeError);
});

test('a border between fields cannot be moved', () => {
  assert.notDeepEqual(lp('ab', 'c'), lp('a', 'bc'));
  assert.deepEqual([...lp('ab', '')], [0, 0, 0, 2, 97, 98, 0, 0, 0, 0]);
});

test('the session is read from the capture token', () => {
  const id = Uint8Array.from({ length: 16 }, (_, at) => at + 200);
  const token = `siv_cap_${toBase64Url(concat(id, new Uint8Array(32)))}`;
  assert.deepEqual([...sessionOf(token)], [...id]);
});

test('the same sealed bodies are the same request', async () => {
  assert.equal(await requestKey(['a', 'b']), await requestKey(['a', 'b']));
  assert.notEqual(await requestKey(['a', 'b']), await requestKey(['ab']));
  assert.match(await requestKey(['a']), /^[\w-]{43}$/);
});
