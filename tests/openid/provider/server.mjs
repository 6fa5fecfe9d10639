// The certified OpenID provider `oidc-provider` on loopback, for tests. It says {"issuer": …} once it listens, then does
// what a line of JSON on its input asks for, and answers each with a line.
//
//   {"do": "account", "name": "alice", "password": "…", "claims": {…}, "amr": […]}   a person, new or changed
//   {"do": "disable", "name": "alice"}                                               nobody of that name any more
//   {"do": "rotate"}                                                                 new keys; the old are published no more
//   {"do": "close"}, {"do": "open"}                                                  an outage, and its end

import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [clientId, clientSecret] = process.argv.slice(2);
const accounts = new Map();
let current;
let issuer;

function key() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

// What is stored outlives a change of keys: oidc-provider's own memory adapter keeps one store a process.
function provider() {
  const made = new Provider(issuer, {
    clients: [{
      client_id: clientId,
      client_secret: clientSecret,
      application_type: 'native', // RFC 8252: any port of 127.0.0.1
      redirect_uris: ['http://127.0.0.1/gloam'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
    }],
    jwks: { keys: [key()] },
    cookies: { keys: [randomUUID()] },
    claims: { openid: ['sub', 'amr'], profile: ['preferred_username'], groups: ['groups'] },
    scopes: ['openid', 'offline_access', 'profile', 'groups'],
    features: { devInteractions: { enabled: false }, deviceFlow: { enabled: true } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    findAccount: async (_, id) => accounts.has(id)
      ? { accountId: id, claims: async () => ({ sub: id, ...accounts.get(id).claims }) }
      : undefined,
    loadExistingGrant: async (ctx) => {
      const { client, session, provider: here } = ctx.oidc;
      const grant = new here.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope('openid offline_access profile groups');
      await grant.save();
      return grant;
    },
    ttl: { AccessToken: 600, AuthorizationCode: 60, DeviceCode: 600, Grant: 86400, IdToken: 600, Interaction: 600,
      RefreshToken: 86400, Session: 86400 },
  });
  return made;
}

async function body(request) {
  let text = '';
  for await (const piece of request) text += piece;
  return Object.fromEntries(new URLSearchParams(text));
}

async function interaction(request, response) {
  const { prompt } = await current.interactionDetails(request, response);
  if (request.method === 'GET') {
    const fields = prompt.name === 'login' ? '<input name="login"><input name="password" type="password">' : '';
    response.setHeader('Content-Type', 'text/html');
    response.end(`<form method="post">${fields}<button type="submit" id="go">${prompt.name}</button></form>`);
    return;
  }
  let result = { consent: {} };
  if (prompt.name === 'login') {
    const { login, password } = await body(request);
    const account = accounts.get(login);
    result = account && account.password === password
      ? { login: { accountId: login, amr: account.amr } }
      : { error: 'access_denied', error_description: 'nobody of that name and password' };
  }
  await current.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const server = createServer((request, response) => {
  if (!request.url.startsWith('/interaction/')) return current.callback()(request, response);
  return interaction(request, response).catch((error) => {
    response.statusCode = 400;
    response.end(error.message);
  });
});

const listen = (port) => new Promise((done) => { server.listen(port, '127.0.0.1', done); });
const say = (document) => process.stdout.write(`${JSON.stringify(document)}\n`);

await listen(0);
const { port } = server.address();
issuer = `http://127.0.0.1:${port}`;
current = provider();
say({ issuer });

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  switch (asked.do) {
    case 'account': accounts.set(asked.name, { claims: {}, amr: [], ...accounts.get(asked.name), ...asked }); break;
    case 'disable': accounts.delete(asked.name); break;
    case 'rotate': current = provider(); break;
    case 'close':
      server.closeAllConnections();
      await new Promise((done) => { server.close(done); server.closeAllConnections(); });
      break;
    case 'open': await listen(port); break;
    default: throw new Error(`unknown: ${line}`);
  }
  say({ done: asked.do });
}
process.exit(0);
