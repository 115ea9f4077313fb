// Copyright: Contributors to the rhpds.litemaas project
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Prisma's query engine for LiteLLM, made of npm packages alone, so that no native engine has to be downloaded.
//
// LiteLLM's Prisma client starts `query-engine -p PORT` and sends it GraphQL over HTTP. This program answers that protocol with
// the official WebAssembly engine over the official PostgreSQL adapter; the engine speaks Prisma's newer JSON protocol, so each
// query is translated on its way in and each result on its way out.
//
//   GET /status    POST / (a query, or {"batch": [...]})    POST /transaction/start, /transaction/ID/commit|rollback
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const HERE = path.dirname(fs.realpathSync(fileURLToPath(import.meta.url)))
const require = createRequire(path.join(HERE, 'package.json'))
// What the client expects to hear; the commit that the pinned wasm package was built from.
const VERSION = process.env.PRISMA_EXPECTED_ENGINE_VERSION || '393aa359c9ad4a4bb28630fb5613f9c281cde053'
const PARENT_CHECK_MS = 500

const argv = process.argv.slice(2)
if (argv.includes('--version') || argv.includes('-V')) {
  console.log(`query-engine ${VERSION}`)
  process.exit(0)
}

const pg = require('pg')
const pgArray = require('postgres-array')
const { PrismaPg } = require('@prisma/adapter-pg')
const { bindAdapter } = require('@prisma/driver-adapter-utils')
const { parse } = require('graphql')

// ---------- the data model: field -> type, for every model ----------

function readModels(datamodel) {
  const models = {}
  for (const [, name, body] of datamodel.matchAll(/^model\s+(\w+)\s*\{([\s\S]*?)^\}/gm)) {
    models[name] = {}
    for (const line of body.split('\n')) {
      const field = /^\s*(\w+)\s+(\w+)(\[\]|\?)?/.exec(line)
      if (field && !line.trim().startsWith('//')) models[name][field[1]] = field[2]
    }
  }
  return models
}

const datamodel = fs.readFileSync(process.env.PRISMA_DML_PATH, 'utf8')
const MODELS = readModels(datamodel)

// ---------- GraphQL -> JSON protocol ----------

const ACTIONS = [
  'findUniqueOrThrow', 'findFirstOrThrow', 'findUnique', 'findFirst', 'findMany', 'createOne', 'updateOne', 'deleteOne', 'upsertOne',
  'createMany', 'updateMany', 'deleteMany', 'aggregate', 'groupBy',
].map((action) => {
  const [verb, suffix] = action.endsWith('OrThrow') ? [action.slice(0, -7), 'OrThrow'] : [action, '']
  return [new RegExp(`^${verb}(.+)${suffix}$`), action]
})

// GraphQL carries Json and Bytes as plain strings and leaves it to the engine to know better; the JSON protocol wants them tagged.
// So the walk over the arguments carries a context along, what kind of thing the value at hand is:
//   {kind: 'fields', model}   an object whose keys are fields of the model
//   {kind: 'nested', model}   an object of operations on related rows (create, connect, where ...)
//   {kind: 'json'}, {kind: 'bytes'}, or null for anything else
const NESTED_FIELDS = new Set(['where', 'data', 'create', 'connect', 'disconnect', 'delete', 'set', 'deleteMany', 'createMany', 'is', 'isNot', 'some', 'every', 'none'])
const NESTED_AGAIN = new Set(['update', 'updateMany', 'upsert', 'connectOrCreate'])
const JSON_OPERATORS = new Set(['set', 'equals', 'not', 'array_contains', 'array_starts_with', 'array_ends_with', 'lt', 'lte', 'gt', 'gte'])
const FIELD_ARGUMENTS = new Set(['where', 'data', 'create', 'update', 'cursor', 'having'])

function contextOf(context, key) {
  if (!context) return null
  const { kind, model } = context
  if (kind === 'json') return JSON_OPERATORS.has(key) ? context : null
  if (kind === 'bytes') return context
  if (kind === 'nested') {
    if (NESTED_AGAIN.has(key)) return context
    if (NESTED_FIELDS.has(key)) return { model, kind: key === 'createMany' ? 'nested' : 'fields' }
  }
  const type = MODELS[model]?.[key]
  if (!type) return { model, kind: 'fields' } // AND, OR, NOT and compound keys: fields of the same model inside
  if (type === 'Json') return { kind: 'json' }
  if (type === 'Bytes') return { kind: 'bytes' }
  return MODELS[type] ? { model: type, kind: 'nested' } : null
}

function toValue(node, context) {
  switch (node.kind) {
    case 'IntValue': {
      const number = Number(node.value)
      return Number.isSafeInteger(number) ? number : { $type: 'BigInt', value: node.value }
    }
    case 'FloatValue':
      return Number(node.value)
    case 'StringValue':
      if (context?.kind === 'json') return { $type: 'Json', value: node.value }
      if (context?.kind === 'bytes') return { $type: 'Bytes', value: node.value }
      return node.value
    case 'EnumValue':
      return context?.kind === 'json' ? { $type: 'Enum', value: node.value } : node.value
    case 'BooleanValue':
      return node.value
    case 'NullValue':
      return null
    case 'ListValue':
      return node.values.map((item) => toValue(item, context))
    case 'ObjectValue':
      return Object.fromEntries(node.fields.map((field) => [field.name.value, toValue(field.value, contextOf(context, field.name.value))]))
    default:
      throw new Error(`unsupported GraphQL value ${node.kind}`)
  }
}

function toArguments(field, model) {
  return Object.fromEntries((field.arguments || []).map((argument) => {
    const name = argument.name.value
    return [name, toValue(argument.value, model && FIELD_ARGUMENTS.has(name) ? { model, kind: 'fields' } : null)]
  }))
}

function toSelection(set, model) {
  const selection = {}
  for (const field of set?.selections || []) {
    const name = field.name.value
    const type = MODELS[model]?.[name]
    const related = MODELS[type] ? type : null
    const args = toArguments(field, related)
    const plainField = !field.selectionSet && !Object.keys(args).length
    selection[name] = plainField ? true : { arguments: args, selection: toSelection(field.selectionSet, related) }
  }
  return selection
}

// -> {alias: the name of the result, raw: for raw SQL its operation, body: the query in the JSON protocol}
function translate(query) {
  const field = parse(query, { noLocation: true }).definitions[0].selectionSet.selections[0]
  const name = field.name.value
  const alias = field.alias?.value || name
  if (name === 'queryRaw' || name === 'executeRaw') {
    return { alias, raw: name, body: { action: name, query: { arguments: toArguments(field, null), selection: {} } } }
  }
  for (const [pattern, action] of ACTIONS) {
    const found = pattern.exec(name)
    if (!found) continue
    const modelName = found[1]
    return { alias, body: { modelName, action, query: { arguments: toArguments(field, modelName), selection: toSelection(field.selectionSet, modelName) } } }
  }
  throw new Error(`unsupported operation ${name}`)
}

// ---------- results: JSON protocol -> GraphQL ----------

// Stands for an integer too large for a JavaScript number until the text of the answer is written.
const BIG = '__big'

function untag(value) {
  if (Array.isArray(value)) return value.map(untag)
  if (value === null || typeof value !== 'object') return value
  if ('$type' in value) return value.$type === 'BigInt' ? { [BIG]: String(value.value) } : value.value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, untag(item)]))
}

function rawRows(result) {
  // Prisma Client Python 0.11 wants [{column: {prisma__type, prisma__value}}]; QE_RAW_COLUMNS leaves {columns, types, rows}, as 0.15 wants it.
  if (!result || Array.isArray(result) || !result.columns || process.env.QE_RAW_COLUMNS) return result
  const cell = (type, value) => {
    if (value === null) return { prisma__type: 'null', prisma__value: null }
    if (type.endsWith('-array')) return { prisma__type: 'array', prisma__value: value.map((item) => cell(type.slice(0, -'-array'.length), item)) }
    return { prisma__type: type, prisma__value: value }
  }
  return result.rows.map((row) => Object.fromEntries(result.columns.map((column, n) => [column, cell(result.types[n], row[n])])))
}

function toReply(query, result) {
  if (result.errors) return result
  const data = Object.values(result.data)[0]
  return { data: { [query.alias]: query.raw === 'queryRaw' ? rawRows(data) : untag(data) } }
}

const toText = (reply) => JSON.stringify(reply).replace(new RegExp(`\\{"${BIG}":"(-?\\d+)"\\}`, 'g'), '$1')

// ---------- PostgreSQL ----------

const OID = { name: 19, text: 25, nameArray: 1003, textArray: 1009 }

// The adapter knows neither `name` nor `name[]`, which catalogue queries return: hand them over as text and text[].
function acceptNames(target) {
  const query = target.query.bind(target)
  target.query = (config, ...rest) => {
    if (typeof config !== 'object' || !config.types || rest.some((item) => typeof item === 'function')) return query(config, ...rest)
    const getTypeParser = (oid, format) => {
      if (oid === OID.nameArray) return (text) => pgArray.parse(text, (item) => item)
      return config.types.getTypeParser(oid === OID.name ? OID.text : oid, format)
    }
    return query({ ...config, types: { getTypeParser } }, ...rest).then((result) => {
      for (const field of result.fields || []) {
        if (field.dataTypeID === OID.nameArray) field.dataTypeID = OID.textArray
        if (field.dataTypeID === OID.name) field.dataTypeID = OID.text
      }
      return result
    })
  }
}

function makePool() {
  const override = process.env.OVERWRITE_DATASOURCES ? JSON.parse(process.env.OVERWRITE_DATASOURCES)[0]?.url : undefined
  const url = new URL(override || process.env.DATABASE_URL)
  const max = Number(url.searchParams.get('connection_limit') || 10)
  const schema = url.searchParams.get('schema') || 'public'
  // Prisma's own parameters; PostgreSQL would refuse them.
  for (const name of ['connection_limit', 'pool_timeout', 'schema', 'pgbouncer', 'connect_timeout', 'statement_cache_size', 'socket_timeout']) {
    url.searchParams.delete(name)
  }
  const pool = new pg.Pool({ connectionString: url.toString(), max })
  pool.on('error', () => {}) // an idle connection that ends is replaced by the next query
  acceptNames(pool)
  const accepted = new WeakSet()
  const connect = pool.connect.bind(pool)
  pool.connect = (callback) => {
    if (callback) return connect(callback) // pool.query itself, which is patched already
    return connect().then((client) => {
      if (!accepted.has(client)) {
        accepted.add(client)
        acceptNames(client)
      }
      return client
    })
  }
  return { pool, schema }
}

// ---------- the engine ----------

async function loadEngine() {
  const folder = path.join(HERE, 'node_modules/@prisma/query-engine-wasm/postgresql')
  // The package's glue code is an ES module that only bundlers recognise as one: evaluate it from memory.
  const source = fs.readFileSync(path.join(folder, 'query_engine_bg.js'))
  const glue = await import('data:text/javascript;base64,' + source.toString('base64'))
  const module = new WebAssembly.Module(fs.readFileSync(path.join(folder, 'query_engine_bg.wasm')))
  const instance = new WebAssembly.Instance(module, { './query_engine_bg.js': glue })
  glue.__wbg_set_wasm(instance.exports)
  return glue.QueryEngine
}

const NO_TRACE = JSON.stringify({})
const { pool, schema } = makePool()
const QueryEngine = await loadEngine()
const engine = new QueryEngine(
  { datamodel, logLevel: 'error', logQueries: false, engineProtocol: 'json' }, () => {}, bindAdapter(new PrismaPg(pool, { schema })),
)
await engine.connect(JSON.stringify({}))

async function execute(body, transaction) {
  if (!body.batch) {
    const query = translate(body.query)
    return toReply(query, JSON.parse(await engine.query(JSON.stringify(query.body), NO_TRACE, transaction)))
  }
  const queries = body.batch.map((item) => translate(item.query))
  const batch = { batch: queries.map((query) => query.body), transaction: body.transaction ? {} : undefined }
  const result = JSON.parse(await engine.query(JSON.stringify(batch), NO_TRACE, transaction))
  return result.errors ? result : { batchResult: result.batchResult.map((item, n) => toReply(queries[n], item)) }
}

function failure(error) {
  const message = String(error?.message || error)
  return { errors: [{ error: message, user_facing_error: { is_panic: false, message, backtrace: null } }] }
}

async function answer(request, text) {
  const route = request.url.split('?')[0]
  const ending = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(route)
  if (route === '/status') return { status: 'ok' }
  if (route === '/metrics') return { counters: [], gauges: [], histograms: [] }
  if (route === '/transaction/start') return JSON.parse(await engine.startTransaction(text || '{}', NO_TRACE))
  if (ending) return JSON.parse(await engine[`${ending[2]}Transaction`](ending[1], NO_TRACE))
  if (request.method === 'POST') return execute(JSON.parse(text), request.headers['x-transaction-id'])
  return undefined
}

// ---------- the server ----------

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', async () => {
    const text = Buffer.concat(chunks).toString('utf8')
    let reply
    try {
      reply = await answer(request, text)
      if (reply?.error_code) reply = { errors: [{ error: reply.message, user_facing_error: reply }] }
    } catch (error) {
      reply = failure(error)
    }
    if (reply === undefined) return response.writeHead(404).end()
    if (process.env.QE_DEBUG && reply.errors) console.error('[query-engine]', text.slice(0, 2000), JSON.stringify(reply))
    return response.writeHead(200, { 'content-type': 'application/json' }).end(toText(reply))
  })
})
server.keepAliveTimeout = 120000
server.listen(Number(argv[argv.indexOf('-p') + 1] || 0), 'localhost')

function leave() {
  server.close()
  pool.end().finally(() => process.exit(0))
  setTimeout(() => process.exit(0), 500).unref()
}
process.on('SIGINT', leave)
process.on('SIGTERM', leave)

// Never outlive the proxy that started us, however it ended. The launcher says who it is: it may be gone before this runs.
const parent = Number(process.env.QE_PARENT) || process.ppid
const orphaned = () => process.ppid !== parent || parent === 1
if (orphaned()) process.exit(0)
setInterval(() => { if (orphaned()) process.exit(0) }, PARENT_CHECK_MS).unref()
