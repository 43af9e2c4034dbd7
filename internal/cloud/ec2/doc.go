// Package ec2 makes machine images and instances of Amazon EC2.
//
// A disk goes into an EBS snapshot block by block, as it is composed: there is
// no file, no bucket and no helper instance on the way. What is sent is noted
// in a folder of this host, so that a push that was cut or killed goes on
// where it was; all that is made in the account carries tags from its first
// moment on, by which it is found again.
//
// Credentials, regions and endpoints are those of the AWS SDK's own chain.
package ec2
