// A small site of our own beside the demo shop: another origin, with pages as a test needs them.
import { createServer } from 'node:http';

/** Serves pages by path, under further headers; keeps what is posted. @returns {Promise<{origin: string, posted: string[]}>} */
export async function site(t, pages, headers = {}) {
  const posted = [];
  const server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      if (request.method === 'POST') posted.push(Buffer.concat(parts).toString());
      const page = pages[new URL(request.url, 'http://x').pathname];
      response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'text/html; charset=utf-8', ...headers });
      response.end(page ?? '');
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { origin: `http://localhost:${server.address().port}`, posted };
}
