// Prints an authenticator's code. Its arguments: the secret in base32, and a moment in milliseconds since 1970.
const { authenticator } = require("otplib");

const [secret, epoch] = process.argv.slice(2);
console.log(authenticator.clone({ epoch: Number(epoch) }).generate(secret));
