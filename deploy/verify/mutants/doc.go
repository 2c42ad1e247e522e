// Command mutants shows that the tests behind SECURITY.md's promises can fail: for each defence that mutants.json lists it
// builds the project without that defence, by go build's -overlay and so with no file of the tree edited, and runs the test
// that has to notice. CAUGHT.md is what came out. A test beside it keeps list, code, promises and outcome in step.
//
//	go run ./deploy/verify/mutants            all of them: about four minutes on two cores
//	go run ./deploy/verify/mutants 'replay'   those whose row, name or test matches
package main
