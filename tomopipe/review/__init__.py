"""The page where a person decides: a local web application over the files of a campaign."""
