/**
 * Sends rounds for as long as the process lives. Never throws, never spins, ends within the round in hand.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import { Logger } from '@vendure/core';
import { LOGGER_CTX } from '../notes/notebook';
import { OPTIONS, ResolvedOptions } from '../options';
import { backoffMs } from './backoff';
import { OutageLog } from './outage-log';
import { Sender } from './sender';

@Injectable()
export class SendLoop {
  private readonly stopping = new AbortController();
  private readonly outages: OutageLog;
  private failures = 0;
  private running: Promise<void> = Promise.resolve();

  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
    private readonly sender: Sender,
  ) {
    this.outages = new OutageLog(options.endpoint);
  }

  start(): void {
    Logger.info(`Sending changes of customers and orders to ${this.options.endpoint}`, LOGGER_CTX);
    this.running = this.run();
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const restMs = await this.step();
      await sleep(restMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** One round; answers how long to rest after it. */
  private async step(): Promise<number> {
    try {
      const { claimed, outage } = await this.sender.round();
      if (outage) {
        return this.failed(outage.reason, outage.retryAfterMs);
      }
      this.worked(claimed);
      return claimed < this.sender.limit ? this.options.intervalMs : 0;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return this.failed(`the shop's own database could not be read or written (${reason})`, 0);
    }
  }

  private worked(claimed: number): void {
    if (claimed > 0) {
      this.failures = 0;
      this.outages.worked();
    }
  }

  private failed(reason: string, retryAfterMs: number): number {
    this.outages.failed(reason);
    return Math.max(backoffMs(this.failures++), Math.min(retryAfterMs, MOST_RETRY_AFTER_MS));
  }
}

/** A Retry-After beyond this is taken for a mistake. */
const MOST_RETRY_AFTER_MS = 60 * 60_000;
