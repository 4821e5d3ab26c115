package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	smithy "github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/transport"
)

// failed adds the sentinel of package storage that a store's error means, and
// the end of ctx when that is why.
func failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if target := meaning(err); target != nil {
		return fmt.Errorf("%w: %w", target, err)
	}
	return transport.TimedOut(err)
}

// Codes of Amazon S3, then of other stores that speak its protocol. Any other
// code is worth another try.
var codes = map[string]error{
	"NoSuchKey":                          storage.ErrNotExist,
	"NotFound":                           storage.ErrNotExist,
	"NoSuchBucket":                       storage.ErrNoBucket,
	"PreconditionFailed":                 storage.ErrExist,
	"AccessDenied":                       storage.ErrPermission,
	"AccessDeniedException":              storage.ErrPermission,
	"AccountProblem":                     storage.ErrPermission,
	"AllAccessDisabled":                  storage.ErrPermission,
	"ExpiredToken":                       storage.ErrPermission,
	"Forbidden":                          storage.ErrPermission,
	"InvalidAccessKeyId":                 storage.ErrPermission,
	"InvalidSecurity":                    storage.ErrPermission,
	"InvalidToken":                       storage.ErrPermission,
	"NotSignedUp":                        storage.ErrPermission,
	"SignatureDoesNotMatch":              storage.ErrPermission,
	"TokenRefreshRequired":               storage.ErrPermission,
	"UnauthorizedAccess":                 storage.ErrPermission,
	"RequestTimeTooSkewed":               storage.ErrClockSkew,
	"RequestExpired":                     storage.ErrClockSkew,
	"RequestInTheFuture":                 storage.ErrClockSkew,
	"BadDigest":                          storage.ErrChecksum,
	"ContentSHA256Mismatch":              storage.ErrChecksum,
	"InvalidDigest":                      storage.ErrChecksum,
	"XAmzContentChecksumMismatch":        storage.ErrChecksum,
	"XAmzContentSHA256Mismatch":          storage.ErrChecksum,
	"KeyTooLongError":                    storage.ErrBadKey,
	"AuthorizationHeaderMalformed":       storage.ErrConfig,
	"IllegalLocationConstraintException": storage.ErrConfig,
	"InvalidBucketName":                  storage.ErrConfig,
	"InvalidStorageClass":                storage.ErrConfig,
	"MovedPermanently":                   storage.ErrConfig,
	"PermanentRedirect":                  storage.ErrConfig,
	"QuotaExceeded":                      storage.ErrFull,
	"InsufficientStorage":                storage.ErrFull,
	"StorageFull":                        storage.ErrFull,
	"StorageQuotaExceeded":               storage.ErrFull,
	"TotalSizeLimitExceeded":             storage.ErrFull,
	"XAdminUserNotFound":                 storage.ErrPermission,
	"XMinioAdminBucketQuotaExceeded":     storage.ErrFull,
	"XMinioStorageFull":                  storage.ErrFull,
	"ExistingObjectIsDirectory":          storage.ErrBadKey,
	"ObjectParentIsFile":                 storage.ErrBadKey,
	"XMinioInvalidObjectName":            storage.ErrBadKey,
	"XMinioObjectExistsAsDirectory":      storage.ErrBadKey,
	"XMinioParentIsObject":               storage.ErrBadKey,
}

func meaning(err error) error {
	target := meaningOfCode(err)
	if errors.Is(target, storage.ErrPermission) && skewed(err) {
		return storage.ErrClockSkew
	}
	return target
}

func meaningOfCode(err error) error {
	if target, ok := codes[codeOf(err)]; ok {
		return target
	}
	switch statusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return storage.ErrPermission
	case http.StatusPreconditionFailed:
		return storage.ErrExist
	case http.StatusInsufficientStorage:
		return storage.ErrFull
	}
	return nil
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func statusOf(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// maxSkew is what Amazon S3 tolerates.
const maxSkew = 15 * time.Minute

// skewed compares the clocks of a refusal that cannot say more, which answers
// to HEAD requests never can.
func skewed(err error) bool {
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil {
		return false
	}
	date, parseErr := http.ParseTime(response.Response.Header.Get("Date"))
	return parseErr == nil && time.Since(date).Abs() > maxSkew
}
