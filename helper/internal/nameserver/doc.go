// Package nameserver is the DNS server of a gateway.
//
// It answers three kinds of question:
//
//   - The private names of the network document, and the reverse zones of the
//     private ranges (30.10.in-addr.arpa, 31.10.in-addr.arpa). They are answered
//     here for every type, with the AA bit, and never leave the network: a name
//     or a type that does not exist gets an SOA (RFC 2308), not an upstream
//     resolver's opinion.
//   - Every other name is forwarded to the upstream resolvers, through a bounded
//     cache. A name *below* a private name (www.alice.example.com) is such a
//     name, unless it is private itself: the document lists names, not zones.
//     A name *above* one exists, even if upstream says that it does not.
//   - What is no question from inside is dropped without an answer, so that the
//     server cannot be used to reflect packets.
//
// Defences against forged answers (RFC 5452): a new connected socket, thus a
// port chosen by the kernel, and a random ID for each question sent; the
// question in the answer must match; many wrong answers in a row move the
// question to TCP. Of an answer only the chain of CNAMEs from the question's
// name and the records at its names are used, and only for that very question;
// authority and additional records are never cached as answers of their own.
// Where a chain reaches a private name, the zone's records stand there. The
// spelling of names is not randomised (0x20): resolvers that do not keep it
// would fall silent.
// DNSSEC is carried (DO, CD, RRSIG) and not validated, hence AD is never set.
// Client subnet, cookies and all other EDNS options stop here.
package nameserver
