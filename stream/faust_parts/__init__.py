"""Private parts of Faust and aiokafka, all of them: intake, recovery, bulk restore, producer."""
