/**
 * The other end of the hook: a real HTTP server that verifies signatures and keeps the newest document of every
 * entity, as a mirror does. A test may make it answer anything.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';

export interface HookEvent {
  id: string;
  type: string;
  entityId: string;
  readAt: string;
  hash: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: documents are compared as JSON
  data: any;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
}

/** Decides the answer to a request; may end the sender's process first. */
export type Reply = (events: HookEvent[], request: IncomingMessage) => Answer | Promise<Answer>;

export const SECRET = `whsec_${Buffer.from('the secret of the plugin tests').toString('base64')}`;
const ACCEPTED: Reply = () => ({ status: 202 });

export class Receiver {
  reply: Reply = ACCEPTED;
  secret = SECRET;
  /** Every request whose signature was right, as its list of events. */
  readonly requests: HookEvent[][] = [];
  /** Events that were answered with 202, in the order of their arrival. */
  readonly events: HookEvent[] = [];
  readonly signatureFaults: string[] = [];
  private readonly server: Server = createServer((request, response) => void this.serve(request, response));

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as { port: number }).port}/hooks/shop`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  accept(): void {
    this.reply = ACCEPTED;
  }

  /** The newest document by `readAt`, as the mirror would hold it; `undefined` if it never heard of the entity. */
  newest(kind: 'customer' | 'order', entityId: string): HookEvent | undefined {
    const own = this.events.filter((e) => e.type.startsWith(`${kind}.`) && e.entityId === entityId);
    return own.sort((one, other) => one.readAt.localeCompare(other.readAt)).at(-1);
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
    }
    const { status, headers } = await this.judge(Buffer.concat(chunks).toString(), request);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end('{}');
  }

  private async judge(body: string, request: IncomingMessage): Promise<Answer> {
    try {
      new Webhook(this.secret).verify(body, request.headers as Record<string, string>);
    } catch (error) {
      this.signatureFaults.push(String(error));
      return { status: 401 };
    }
    const { events } = JSON.parse(body) as { events: HookEvent[] };
    this.requests.push(events);
    const answer = await this.reply(events, request);
    if (answer.status === 202) {
      this.events.push(...events);
    }
    return answer;
  }
}

/** Wait until `check` passes; after that many seconds fail with its last complaint. */
export async function eventually<T>(check: () => T | Promise<T>, seconds = 30): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) {
        throw error;
      }
      await sleep(25);
    }
  }
}
