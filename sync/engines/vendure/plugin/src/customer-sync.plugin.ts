/**
 * CustomerSyncPlugin: notes every change of a customer or an order in the transaction that makes it, and sends it;
 * and answers the mirror, which asks the Admin API whether it has them all.
 *
 * All processes note; one kind of process, the worker unless told otherwise, sends.
 */

import { Inject, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import {
  CustomFieldConfig,
  LanguageCode,
  Logger,
  PluginCommonModule,
  ProcessContext,
  TransactionalConnection,
  Type,
  VendurePlugin,
} from '@vendure/core';
import { MirrorResolver, mirrorSchema } from './api/mirror.resolver';
import { PrivateFieldsInterceptor } from './api/private-fields.interceptor';
import { DocumentReader } from './documents/document-reader';
import { ChangeNote } from './notes/change-note.entity';
import { EventWatch } from './notes/event-watch';
import { NoteQueue } from './notes/note-queue';
import { LOGGER_CTX, Notebook } from './notes/notebook';
import { RowWatch } from './notes/row-watch';
import { CustomerSyncOptions, OPTIONS, ResolvedOptions, resolveOptions } from './options';
import { addFields } from './own-fields';
import { Endpoint } from './send/endpoint';
import { SendLoop } from './send/send-loop';
import { Sender } from './send/sender';
import { Sweeper } from './sweep/sweeper';

const en = (value: string) => [{ languageCode: LanguageCode.en, value }];

/** Never public: through the Shop API a shopper could otherwise set them. */
function field(name: string, type: 'string' | 'boolean', label: string): CustomFieldConfig {
  const common = { name, public: false, label: en(label) };
  return type === 'boolean' ? { ...common, type, defaultValue: false } : { ...common, type, nullable: true };
}

const CUSTOMER_FIELDS = [
  field('phoneVerified', 'boolean', 'Phone verified'),
  field('marketingConsent', 'boolean', 'Marketing consent'),
];

const ORDER_LINE_FIELDS = [
  field('patchEnabled', 'boolean', 'Patch'),
  field('patchType', 'string', 'Patch type'),
  field('printName', 'string', 'Print name'),
  field('printNumber', 'string', 'Print number'),
  field('preOrder', 'boolean', 'Pre-order'),
];

@VendurePlugin({
  imports: [PluginCommonModule],
  entities: [ChangeNote],
  providers: [
    { provide: OPTIONS, useFactory: () => CustomerSyncPlugin.options() },
    Notebook,
    EventWatch,
    NoteQueue,
    DocumentReader,
    Endpoint,
    Sender,
    SendLoop,
    Sweeper,
    { provide: APP_INTERCEPTOR, useClass: PrivateFieldsInterceptor },
  ],
  adminApiExtensions: { schema: mirrorSchema, resolvers: [MirrorResolver] },
  compatibility: '^3.0.0',
  configuration: (config) => {
    addFields(config.customFields, 'Customer', CUSTOMER_FIELDS);
    addFields(config.customFields, 'OrderLine', ORDER_LINE_FIELDS);
    return config;
  },
})
export class CustomerSyncPlugin implements OnApplicationBootstrap, OnModuleDestroy {
  private static resolved?: ResolvedOptions;

  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
    private readonly connection: TransactionalConnection,
    private readonly process: ProcessContext,
    private readonly notebook: Notebook,
    private readonly eventWatch: EventWatch,
    private readonly loop: SendLoop,
  ) {}

  /** Set where to send and how. Throws one error that lists every option that is wrong. */
  static init(options: CustomerSyncOptions): Type<CustomerSyncPlugin> {
    CustomerSyncPlugin.resolved = resolveOptions(options);
    return CustomerSyncPlugin;
  }

  static options(): ResolvedOptions {
    if (!CustomerSyncPlugin.resolved) {
      throw new Error('CustomerSyncPlugin: write CustomerSyncPlugin.init({ endpoint, secret }) in plugins.');
    }
    return CustomerSyncPlugin.resolved;
  }

  onApplicationBootstrap(): void {
    const { rawConnection } = this.connection;
    if (rawConnection.options.type !== 'postgres') {
      throw new Error(
        `CustomerSyncPlugin needs Postgres; this shop's database is ${rawConnection.options.type}.`,
      );
    }
    new RowWatch(this.notebook).watch(rawConnection);
    this.eventWatch.watch();
    if (this.sends) {
      this.loop.start();
    } else {
      Logger.info(`This process notes changes; the ${this.options.sendFrom} process sends them.`, LOGGER_CTX);
    }
  }

  /** Before the database connection is closed. */
  async onModuleDestroy(): Promise<void> {
    await this.loop.stop();
  }

  private get sends(): boolean {
    return this.options.sendFrom === 'worker' ? this.process.isWorker : this.process.isServer;
  }
}
