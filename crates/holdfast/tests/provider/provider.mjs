// A real OpenID provider on loopback: oidc-provider with one client, and its own pages for whoever logs in.
// It takes any password, and calls each person by the name they typed.
//
//   node provider.mjs MODULES PORT ISSUER REDIRECT_URI CLIENT_SECRET

import { pathToFileURL } from 'node:url';

const [modules, port, issuer, redirect, secret] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

const provider = new Provider(issuer, {
  clients: [{ client_id: 'holdfast', client_secret: secret, redirect_uris: [redirect] }],
  pkce: { required: () => true },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
