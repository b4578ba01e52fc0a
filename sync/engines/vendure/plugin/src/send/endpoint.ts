/**
 * Posts signed events to the mirror and says in the sender's terms what came of it.
 */
import { createHash } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { Webhook } from 'standardwebhooks';
import { OPTIONS, ResolvedOptions } from '../options';
import type { OutgoingEvent } from './change';

/**
 * `accepted`: the mirror has them. `refused`: something is wrong with one of these events, or with their size.
 * `unavailable`: nothing would get through now; `retryAfterMs` is what the mirror asked for.
 */
export type Outcome =
  | { kind: 'accepted' }
  | { kind: 'refused'; reason: string }
  | { kind: 'unavailable'; reason: string; retryAfterMs: number };

const REFUSALS = [400, 413, 422];
const REASON_LENGTH = 500;
const HINTS: Record<number, string> = {
  401: '(have both sides the same secret, and their clocks the same time?)',
  404: '(does the endpoint end in the name of an integration that the mirror knows?)',
};

@Injectable()
export class Endpoint {
  private readonly signers: Webhook[];

  constructor(@Inject(OPTIONS) private readonly options: ResolvedOptions) {
    this.signers = options.secrets.map((secret) => new Webhook(secret));
  }

  async post(events: OutgoingEvent[]): Promise<Outcome> {
    try {
      return await this.judge(await this.request(events));
    } catch (error) {
      return { kind: 'unavailable', reason: `${explain(error)} (is the mirror running?)`, retryAfterMs: 0 };
    }
  }

  private request(events: OutgoingEvent[]): Promise<Response> {
    const now = new Date();
    const list = events.map(({ json }) => json).join(',');
    const body = `{"type":"vendure.changes","timestamp":"${now.toISOString()}","events":[${list}]}`;
    return fetch(this.options.endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...this.signature(messageId(events), now, body) },
      body,
      redirect: 'error',
      signal: AbortSignal.timeout(this.options.timeoutMs),
    });
  }

  private signature(id: string, now: Date, body: string): Record<string, string> {
    return {
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
      'webhook-signature': this.signers.map((signer) => signer.sign(id, now, body)).join(' '),
    };
  }

  private async judge(response: Response): Promise<Outcome> {
    const text = (await response.text()).slice(0, REASON_LENGTH);
    if (response.ok) {
      return { kind: 'accepted' };
    }
    const reason = [response.status, response.statusText, text, HINTS[response.status]]
      .filter(Boolean)
      .join(' ');
    if (REFUSALS.includes(response.status)) {
      return { kind: 'refused', reason };
    }
    return { kind: 'unavailable', reason, retryAfterMs: retryAfterMs(response.headers.get('retry-after')) };
  }
}

function messageId(events: OutgoingEvent[]): string {
  const hash = createHash('sha256');
  for (const { id } of events) {
    hash.update(id).update('\n');
  }
  return `msg_${hash.digest('base64url')}`;
}

/** Seconds or an HTTP date, as RFC 9110 has it; anything else counts as not given. */
export function retryAfterMs(value: string | null): number {
  const ms = /^\d+$/.test(value ?? '') ? Number(value) * 1000 : Date.parse(value ?? '') - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

function explain(error: unknown): string {
  const { message, cause } = error as Error;
  const detail = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : '';
  return [message, detail].filter(Boolean).join(': ');
}
