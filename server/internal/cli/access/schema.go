package access

import _ "embed"

// Schema is the JSON schema of a file. "make generate" makes it from the contract.
//
//go:embed access.schema.json
var Schema string
