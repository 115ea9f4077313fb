// Copyright: Contributors to the rhpds.litemaas project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
// Prisma's own schema engine, as WebAssembly, on PostgreSQL: its native one would be downloaded.
import { defineConfig } from 'prisma/config'
import { PrismaPg } from '@prisma/adapter-pg'
import Result from 'pg/lib/result.js'

// The engine reads PostgreSQL's catalogue, and this adapter knows no "char", name and name[]: they are text.
const TEXT = { 18: 25, 19: 25, 1003: 1009 }
const addFields = Result.prototype.addFields
Result.prototype.addFields = function (fields) {
  for (const field of fields) field.dataTypeID = TEXT[field.dataTypeID] ?? field.dataTypeID
  return addFields.call(this, fields)
}

class Adapter extends PrismaPg {
  async connect() {
    const adapter = await super.connect()
    // It would cut a migration at every semicolon, those in function bodies too; the native engine sends it whole.
    adapter.executeScript = async (sql) => {
      await adapter.executeRaw({ sql, args: [], argTypes: [] })
    }
    return adapter
  }
}

export default defineConfig({
  engine: 'js',
  experimental: { adapter: true },
  // Idle connections would keep the process for ten seconds.
  adapter: async () => new Adapter({ connectionString: process.env.DATABASE_URL, idleTimeoutMillis: 100 }),
})
