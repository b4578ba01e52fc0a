/**
 * A running shop: a Vendure server and, where a test wants it, a worker, each a process of its own that can be
 * killed; its database; and clients of both APIs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import type { CustomerSyncOptions } from '../../src/options';
import { databaseUrl, freePort, query, TEMPLATE } from './postgres';

const MAIN = join(import.meta.dirname, '../shop/main.mjs');
type Role = 'server' | 'worker';
// biome-ignore lint/suspicious/noExplicitAny: answers of a GraphQL API, whose schema checks them
type Answer = any;

export class Shop {
  private processes: Array<{ role: Role; child: ChildProcess }> = [];
  log = '';
  /** How ids are written: as numbers, or `encoded`. */
  ids: 'numbers' | 'encoded' = 'numbers';

  private constructor(
    private readonly port: number,
    readonly databaseUrl: string,
    private readonly server: string,
    public sync: CustomerSyncOptions,
  ) {}

  static async create(postgresUrl: string, sync: CustomerSyncOptions): Promise<Shop> {
    const name = `shop_${randomBytes(6).toString('hex')}`;
    await query(postgresUrl, `create database ${name} template ${TEMPLATE}`);
    return new Shop(await freePort(), databaseUrl(postgresUrl, name), postgresUrl, sync);
  }

  async start(...roles: Role[]): Promise<void> {
    await Promise.all(roles.map((role) => this.launch(role)));
  }

  /** End every process of the role, as a crash would unless told otherwise. */
  async kill(role: Role, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const doomed = this.processes.filter((process) => process.role === role);
    this.processes = this.processes.filter((process) => process.role !== role);
    await Promise.all(doomed.map(({ child }) => end(child, signal)));
  }

  async remove(): Promise<void> {
    await Promise.all([this.kill('server'), this.kill('worker')]);
    await query(this.server, `drop database "${new URL(this.databaseUrl).pathname.slice(1)}" with (force)`);
  }

  async sql(text: string, values: unknown[] = []): Promise<Answer[]> {
    return (await query(this.databaseUrl, text, values)).rows;
  }

  shopper(): Client {
    return new Client(`http://127.0.0.1:${this.port}/shop-api`);
  }

  /** Someone at the Admin API who has not logged in. */
  stranger(): Client {
    return new Client(`http://127.0.0.1:${this.port}/admin-api`);
  }

  async admin(username = 'superadmin', password = 'superadmin'): Promise<Client> {
    const client = this.stranger();
    const logIn =
      'mutation ($username: String!, $password: String!) { login(username: $username, password: $password) { __typename } }';
    await client.run(logIn, { username, password });
    return client;
  }

  private async launch(role: Role): Promise<void> {
    const env = {
      ...process.env,
      VENDURE_DISABLE_TELEMETRY: 'true',
      SHOP_DATABASE_URL: this.databaseUrl,
      SHOP_PORT: String(this.port),
      SHOP_IDS: this.ids,
      SHOP_SYNC: JSON.stringify(this.sync),
    };
    const child = spawn(process.execPath, [MAIN, role], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.processes.push({ role, child });
    await this.ready(child);
  }

  private ready(child: ChildProcess): Promise<void> {
    return new Promise((resolve, reject) => {
      const listen = (chunk: Buffer) => {
        this.log += chunk;
        if (/^ready$/m.test(String(chunk))) {
          resolve();
        }
      };
      child.stdout?.on('data', listen);
      child.stderr?.on('data', listen);
      child.once('exit', (code) => reject(new Error(`The shop ended with ${code}:\n${this.log}`)));
    });
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }
}

/** A GraphQL session. Error results count as errors where `__typename` is asked for. */
export class Client {
  private token = '';
  /** The token of a channel; without one it is the default channel. */
  channel = '';

  constructor(private readonly url: string) {}

  async run(document: string, variables: object = {}): Promise<Answer> {
    const { data, errors } = await this.post(document, variables);
    if (errors) {
      throw new Error(errors.map(({ message }: Error) => message).join('; '));
    }
    for (const result of Object.values(data) as Answer[]) {
      if (/Error$/.test(result?.__typename)) {
        throw new Error(`${result.__typename}: ${result.message}`);
      }
    }
    return data;
  }

  private async post(document: string, variables: object): Promise<Answer> {
    const headers: Record<string, string> = { 'content-type': 'application/json' };
    if (this.channel) {
      headers['vendure-token'] = this.channel;
    }
    if (this.token) {
      headers.authorization = `Bearer ${this.token}`;
    }
    const body = JSON.stringify({ query: document, variables });
    const response = await fetch(this.url, { method: 'POST', headers, body });
    this.token = response.headers.get('vendure-auth-token') ?? this.token;
    return response.json();
  }
}
