package caller

// Reason says why a caller was let through or not. It is the name of a value of
// the contract's enum Reason, in lower case and without its prefix, and a metric's
// label.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	ReasonOK                     Reason = "ok"
	ReasonCredentialMissing      Reason = "credential_missing"
	ReasonCredentialInvalid      Reason = "credential_invalid"
	ReasonCredentialExpired      Reason = "credential_expired"
	ReasonWrongAudience          Reason = "wrong_audience"
	ReasonCredentialRevoked      Reason = "credential_revoked"
	ReasonUserDisabled           Reason = "user_disabled"
	ReasonUserUnknown            Reason = "user_unknown"
	ReasonLimited                Reason = "limited"
	ReasonPasswordChangeRequired Reason = "password_change_required"
	ReasonPermissionMissing      Reason = "permission_missing"
	ReasonScopeMissing           Reason = "scope_missing"
	ReasonSecondFactorRequired   Reason = "second_factor_required"
	ReasonSignInRequired         Reason = "sign_in_required"
	ReasonSelfOnly               Reason = "self_only"
	ReasonRouteMissing           Reason = "route_missing"
	ReasonDeniedByGrant          Reason = "denied_by_grant"
	ReasonConditionFalse         Reason = "condition_false"
	ReasonConditionFailed        Reason = "condition_failed"
)
