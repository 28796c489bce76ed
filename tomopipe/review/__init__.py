"""The review page: a local web application over the files of a campaign."""
