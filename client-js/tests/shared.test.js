// What is repeated is equal, what has a size keeps it, and the page's file stands alone.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import test from 'node:test';
import { gzipSync } from 'node:zlib';

const at = (path) => new URL(`../${path}`, import.meta.url);
const text = (path) => readFileSync(at(path), 'utf8');

/** The statement that begins with `const NAME`. */
function statement(source, name) {
  const found = new RegExp(`^(?:export )?(const ${name} =[\\s\\S]*?;)$`, 'm').exec(source);
  assert.ok(found, name);
  return found[1];
}

test('page and frame use the same names', () => {
  for (const name of ['PROTOCOL', 'TO_FRAME', 'TO_PAGE', 'STYLES']) {
    assert.equal(statement(text('page/secure-input.js'), name), statement(text('shared/protocol.js'), name));
  }
});

test('the file for the page has no imports, so its integrity covers everything', () => {
  const page = text('page/secure-input.js');
  assert.doesNotMatch(page, /^\s*import\s|import\(/m);
  assert.doesNotMatch(page, /innerHTML|localStorage|document\.cookie|console\./);
});

test('no message is posted to just anyone', () => {
  for (const path of ['page/secure-input.js', 'frame/frame.js']) assert.doesNotMatch(text(path), /postMessage\([^;]*'\*'/);
});

test('the version is one', () => {
  const crate = /^version = "(.+)"$/m.exec(readFileSync(new URL('../../Cargo.toml', import.meta.url), 'utf8'))[1];
  assert.equal(JSON.parse(text('package.json')).version, crate);
});

test('the frame names every file it needs, and each with its integrity', () => {
  const html = text('frame/frame.html');
  for (const file of readdirSync(at('frame')).filter((name) => name !== 'frame.html')) {
    assert.ok(html.includes(`/client/{version}/frame/${file}"`) && html.includes(`{integrity:${file}}`), file);
  }
  assert.doesNotMatch(html, /<style|style=|\son\w+=|<script(?![^>]*\bsrc=)/);
});

test('what is loaded stays small', () => {
  const size = (paths) => paths.reduce((sum, path) => sum + gzipSync(readFileSync(at(path)), { level: 9 }).length, 0);
  const page = size(['page/secure-input.js']);
  const frame = size([...readdirSync(at('frame')).map((name) => `frame/${name}`), 'shared/protocol.js']);
  console.log(`gzip: page ${page} bytes, frame ${frame} bytes`);
  assert.ok(page <= 7.5 * 1024, `page: ${page}`);
  assert.ok(frame <= 15 * 1024, `frame: ${frame}`);
});
