// The one test workload: a static program without dependencies.
module portcullis-e2e-probe

go 1.25.0
