/**
 * Says when the mirror stops answering, that it still does not, and when it is back; not every attempt.
 */
import { Logger } from '@vendure/core';
import { LOGGER_CTX } from '../notes/notebook';

const REMINDER_MS = 5 * 60_000;

export class OutageLog {
  private since = 0;
  private lastSaid = 0;

  constructor(private readonly endpoint: string) {}

  failed(reason: string): void {
    const now = Date.now();
    this.since ||= now;
    if (now - this.lastSaid >= REMINDER_MS) {
      this.lastSaid = now;
      Logger.warn(
        `Changes do not reach ${this.endpoint}: ${reason}. They are kept and sent again; nothing is lost.`,
        LOGGER_CTX,
      );
    }
  }

  worked(): void {
    if (this.since > 0) {
      const seconds = Math.round((Date.now() - this.since) / 1000);
      Logger.info(`Changes reach ${this.endpoint} again, after ${seconds} s.`, LOGGER_CTX);
      this.since = this.lastSaid = 0;
    }
  }
}
